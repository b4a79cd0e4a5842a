"""The commands around published work: rows of its tables, its sets and its experts, as people type them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from engine import build
from engine.config.load import load, resolve
from engine.results.files import write_table
from engine.results.row import Row
from engine.rng import named_generator
from engine.studies.job import Job, make_job
from engine.synthetic.set import load_set
from tasks import cli, evaluate, import_published, report, train_experts

TINY = ["data.train_images=60", "data.val_images=20", "data.test_images=20", "data.image_px=8", "student.text.dim=16"]
TINY += [
    "student.embed_dim=16",
    "student.image={encoder: convnet, width: 8, depth: 2, grid: 1, train: full, head: mlp}",
]
SCORED = [*TINY, "protocol={epochs: 1, seeds: 1, learning_rates: [0.1]}"]


def run(task: Any, *words: str) -> int:
    return cli.run(task.main, list(words), parser=task.PARSER)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lors_set() -> dict[str, Any]:
    """Return a set as LoRS saves it, for the tiny student."""
    drawn = named_generator(0, "distilled")
    parts = [torch.ones(5), torch.randn(5, 2, generator=drawn), torch.randn(5, 2, generator=drawn)]
    return {
        "image": torch.randn(5, 3, 8, 8, generator=drawn),
        "text": torch.randn(5, 16, generator=drawn),
        "similarity_params": parts,
        "similarity_mat": parts[0].diag() + parts[1] @ parts[2].T,
        "syn_lr_img": torch.tensor(0.1),
        "syn_lr_txt": torch.tensor(0.2),
    }


@pytest.fixture
def distilled(here: Path) -> Path:
    torch.save(lors_set(), here / "distilled_50.pt")
    return here / "distilled_50.pt"


# --- rows of published tables


def test_published_rows_without_a_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(report, "published/flickr30k_100_lors", "--published") == 0
    assert "Published: arXiv 2406.03793" in capsys.readouterr().out
    assert run(report, "published/flickr30k_100_lors", "--published", "--markdown") == 0
    assert capsys.readouterr().out.startswith("| published, not run here | pairs |")
    assert run(report, "shapes_100", "--published") == 2
    assert capsys.readouterr().err.startswith("error: shapes_100: the space names no published rows")
    assert list(here.iterdir()) == []


def test_a_table_of_ours_is_followed_by_the_published_rows(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = here / "runs" / "studies" / "flickr30k_100_lors-0123"
    write_table(folder, [Row(name="lors", pairs=99, mean={"mean_recall": 20.0})])
    row = "{name: LoRS, pairs: 100, source: a page, protocol: theirs, mean: {mean_recall: 27.4}}"
    (folder / "configuration.yaml").write_text(f"published: [{row}]\n", encoding="utf-8")
    assert run(report, "published/flickr30k_100_lors") == 0
    ours, theirs = capsys.readouterr().out.split("published, not run here:")
    assert "27.4" not in ours
    assert "Published: a page; theirs." in theirs


# --- sets


def test_a_published_set_is_imported(distilled: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(import_published, *TINY, "--distilled", str(distilled), "--out", "ours.safetensors") == 0
    told = capsys.readouterr().out
    assert "5 pairs, images [3, 8, 8], texts [16], learned rates image 0.1, text 0.2" in told
    assert load_set(here / "ours.safetensors").metadata["student"]["text"]["dim"] == 16
    assert run(import_published, *TINY, "--distilled", str(distilled), "--out", "ours.safetensors") == 2
    assert "there is such a file already" in capsys.readouterr().err


def test_an_imported_set_is_scored(
    distilled: Path, here: Path, ray_local: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(import_published, *TINY, "--distilled", str(distilled), "--out", "ours.safetensors") == 0
    assert run(evaluate, *SCORED, "--local", "--set", "ours.safetensors") == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.split()[:2] == ["ours", "5"]]


WRONG = [
    ([], "expected either --distilled FILE or --buffers FOLDER"),
    (["--distilled", "distilled_50.pt", "--buffers", "."], "expected either --distilled FILE or --buffers FOLDER"),
    (["--distilled", "distilled_50.pt"], "expected it with --distilled"),
    (["--buffers", ".", "--out", "a.safetensors"], "expected it with --distilled"),
    (["--distilled", "absent.pt", "--out", "a.safetensors"], "absent.pt: there is no such file"),
    (["--distilled", "broken.pt", "--out", "a.safetensors"], "broken.pt: expected a file of torch.save"),
    (["--distilled", "distilled_50.pt", "--alpha", "-1", "--out", "a.safetensors"], "alpha: it is -1.0, expected"),
    (["--buffers", "."], "expected img_replay_buffer_0.pt and txt_replay_buffer_0.pt, found neither"),
    (["--buffers", ".", "data.name=nothing"], "data.name is 'nothing', expected one of"),
]


@pytest.mark.parametrize(("words", "told"), WRONG, ids=range(len(WRONG)))
def test_a_mistake_is_one_line_and_writes_nothing(
    words: list[str], told: str, distilled: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "broken.pt").write_bytes(b"no tensors")
    assert run(import_published, *TINY, *words) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert told in captured.err
    assert {path.name for path in here.iterdir()} == {"broken.pt", "distilled_50.pt"}


# --- experts


def tiny_job() -> Job:
    return make_job("shapes_100", resolve(load("shapes_100", TINY)))


def write_buffers(folder: Path, job: Job, *, experts: int, epochs: int) -> None:
    """Write buffers of a study's student, as published code does: tensors without names, an expert a file."""
    paths = job.specification.paths
    encoder = build.build_text_encoder(job.study, paths)
    student = build.build_student(job.study, paths, encoder=encoder)
    for expert in range(experts):
        for prefix, tower in zip(("img", "txt"), student.towers(), strict=True):
            snapshots = [
                list(tower.init_params(named_generator(expert, str(epoch))).values()) for epoch in range(epochs + 1)
            ]
            torch.save([snapshots], folder / f"{prefix}_replay_buffer_{expert}.pt")


def test_published_experts_are_not_trained_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_buffers(here, tiny_job(), experts=3, epochs=5)
    assert run(import_published, *TINY, "--buffers", ".") == 0
    assert "3 experts with up to 5 epochs" in capsys.readouterr().out
    assert run(train_experts, *TINY, "--dry-run") == 0
    assert "3 x 5 epochs, 3 already there" in capsys.readouterr().out
    assert run(import_published, *TINY, "--buffers", ".") == 2
    assert "it holds experts already" in capsys.readouterr().err


def test_experts_of_another_student_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_buffers(here, tiny_job(), experts=1, epochs=1)
    wider = [word.replace("embed_dim=16", "embed_dim=24") for word in TINY]
    assert run(import_published, *wider, "--buffers", ".") == 2
    assert "expected [24, " in capsys.readouterr().err
    assert not (here / "runs").exists()
