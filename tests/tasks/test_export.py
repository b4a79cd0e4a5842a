"""The export of a set as a command, its card, and what it says of bad input."""

import json
from pathlib import Path
from typing import Any

import polars
import pytest
import torch
import yaml
from safetensors.torch import save_file

from engine.data.terms import terms_of
from engine.results.audit import Audit, Nearest, Share
from engine.results.card import card
from engine.results.history import BEST_SET
from engine.results.row import Row
from engine.synthetic.set import SyntheticSet, load_set
from tasks import cli, evaluate, export
from tests.finished import Finished
from tests.tiny import SPACE

STUDENT = {
    "image": {"encoder": "convnet", "width": 4},
    "text": {"encoder": "transformers", "model": "no-such-encoder", "train": "frozen"},
}
STUDY = {"student": STUDENT, "data": {"name": "shapes", "image_px": 8}, "method": {"name": "lors", "num_pairs": 3}}


def run(task: Any, *words: str) -> int:
    return cli.run(task.main, list(words), parser=task.PARSER)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(path: Path, metadata: dict[str, Any], captions: list[str] | None = None) -> None:
    rates = {"image": 0.1, "text": 0.1}
    SyntheticSet(torch.rand(3, 3, 8, 8), torch.rand(3, 4), rates, metadata, captions=captions).save(path)


# --- what is written


def test_a_set_with_captions_needs_neither_data_nor_encoder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(here / "mine.safetensors", STUDY, ["a", "b", "c"])
    assert run(export, "--set", "mine.safetensors", "--out", "mine") == 0
    assert capsys.readouterr().out.startswith(f"{here / 'mine'}: 3 pairs, 0.0")
    files = {str(path.relative_to(here / "mine")) for path in (here / "mine").rglob("*") if path.is_file()}
    images = {f"train/000{number}.png" for number in (1, 2, 3)}
    assert files == {"README.md", "learned.json", "learned.safetensors", "train/metadata.jsonl", *images}
    text = (here / "mine" / "README.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    told = yaml.safe_load(head)
    assert (told["license"], told["size_categories"]) == ("apache-2.0", ["n<1K"])
    for said in (
        "lors",
        "transformers `{model: no-such-encoder",
        "Not scored",
        "Not compared with the data",
        "not recorded",
    ):
        assert said in body
    assert {path.name for path in here.iterdir()} == {"mine", "mine.safetensors"}, "and no folder for runs"
    assert run(export, "--set", "mine", "--out", "again", "--tar") == 0, "an export is a set too"
    assert load_set(here / "again").captions == ("a", "b", "c")


def test_the_own_set_of_a_study_is_exported_and_scored(
    finished: Finished, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(SPACE), f"storage={finished.job.specification.storage}"]
    assert run(export, *words, "--out", "scored", "--score", "--local", "--json") == 0
    captured = capsys.readouterr()
    made = json.loads(captured.out)
    assert f"{here / 'scored'}: 8 pairs, " in captured.err
    assert (made["folder"], made["pairs"], made["licence"]) == (str(here / "scored"), 8, "apache-2.0")
    assert made["files"] == sorted(str(one.relative_to(here / "scored")) for one in (here / "scored").rglob("*.*"))
    assert [score["name"] for score in made["scores"]] == ["floats", "this folder", "images and captions alone"]
    assert made["scores"][0]["mean"] == finished.rows[0].mean
    body = (here / "scored" / "README.md").read_text(encoding="utf-8")
    assert all(f"\n| {name} | 8 |" in body for name in ("floats", "this folder", "images and captions alone"))
    assert "points from that of the floats" in body
    assert "of 8 images look like a training image" in body
    assert "% by those of all pairs |\n" in body
    assert "| colours | " in body
    assert "commit" in body
    own = load_set(finished.job.folder / BEST_SET)
    assert own.captions is not None
    assert load_set(here / "scored").captions == own.captions
    capsys.readouterr()
    assert run(evaluate, *words, "--local", "--set", "scored") == 0
    (line,) = (one for one in capsys.readouterr().out.splitlines() if one.split()[:2] == ["scored", "8"])
    (row,) = (one for one in body.splitlines() if one.startswith("| this folder |"))
    assert line.split()[2:9] == row.replace(" ± ", "±").replace("|", " ").split()[3:]

    own.captions = None  # as sets of older versions have none
    own.save(here / "old.safetensors")
    storage = f"storage={finished.job.specification.storage}"
    capsys.readouterr()
    assert run(export, storage, "--set", "old.safetensors", "--out", "old", "--quiet") == 0, (
        "its metadata name the study"
    )
    assert capsys.readouterr() == (f"{here / 'old'}\n", "")
    assert load_set(here / "old").captions == load_set(here / "scored").captions
    (folder,) = finished.job.folder.glob("trials/trial_1")
    table = polars.read_csv(folder / "captions.tsv", separator="\t")
    assert tuple(table["nearest now"]) == load_set(folder / BEST_SET).captions


def test_the_table_beside_a_set_tells_its_score(finished: Finished, here: Path) -> None:
    assert run(export, "--set", str(finished.job.folder / BEST_SET), "--out", "a") == 0
    body = (here / "a" / "README.md").read_text(encoding="utf-8")
    assert f"\n| floats | 8 | {finished.rows[0].mean['IR1']:.1f}" in body
    assert "which have 8 bits, were not scored" in body
    assert "Retrieval: of " in body, "the audit of the study lies beside the set"


# --- the card


def test_a_card_tells_the_distance_of_8_bits_and_the_nearest_photos() -> None:
    synthetic = SyntheticSet(torch.rand(3, 3, 8, 8), torch.rand(3, 4), {"image": 0.1, "text": 0.1}, captions="abc")
    rows = [Row(name=name, pairs=3, mean={"mean_recall": mean}) for name, mean in (("floats", 20.0), ("this", 18.5))]
    nearest = Nearest(names=["x.jpg", "y.jpg", "z.jpg"], bits=[40, 3, 90], alike=32)
    share = Share(everywhere=100.0, kept=61.5, random=58.0, random_std=1.2)
    audit = Audit(pairs=3, captions=30, words=99, coverage=share, groups=[], nearest=nearest)
    terms = terms_of({"name": "karpathy", "root": "/data/Flickr8k"})
    text = card(synthetic, "mine", terms=terms, tar=True, rows=rows, audit=audit)
    assert "a mean recall -1.50 points from that of the floats" in text
    assert "1 of 3 images look like a training image" in text
    assert "make up 61.5 % of all use of words in the 30 training captions (99 different words)" in text
    assert "| 0002 | y.jpg | 3 |\n| 0001 | x.jpg | 40 |" in text
    assert "non-commercial research" in text
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "other"


@pytest.mark.parametrize("made_by", [None, 3, {"versions": 4, "weights": []}])
def test_metadata_of_others_do_not_break_a_card(made_by: Any) -> None:
    metadata = {"made_by": made_by, "method": "lors", "experts": [], "student": {"image": 3}}
    synthetic = SyntheticSet(torch.rand(1, 3, 8, 8), torch.rand(1, 4), {"image": 1, "text": 1}, metadata, captions="a")
    assert "Image encoder: not recorded" in card(synthetic, "mine", terms=terms_of(None), tar=False)


@pytest.mark.parametrize(
    ("data", "licence"),
    [
        ({"name": "karpathy", "root": "coco"}, "other"),
        ({"name": "coco", "root": "photos"}, "other"),
        ({"name": "karpathy", "root": "x", "annotations": "dataset_flickr30k.json"}, "other"),
        ({"name": "table", "root": "/coco/my_photos"}, "unknown"),
        ({"name": "table", "root": "coconuts"}, "unknown"),
        (None, "unknown"),
    ],
)
def test_terms_are_those_of_known_photos_alone(data: dict[str, Any] | None, licence: str) -> None:
    assert terms_of(data).licence == licence


def test_terms_may_be_given(here: Path) -> None:
    save(here / "mine.safetensors", {}, ["a", "b", "c"])
    assert run(export, "--set", "mine.safetensors", "--out", "o", "--licence", "cc0-1.0", "--terms", "Mine: free.") == 0
    body = (here / "o" / "README.md").read_text(encoding="utf-8")
    assert "license: cc0-1.0\n" in body
    assert "Mine: free." in body


# --- bad input


def prepare(here: Path) -> None:
    save(here / "good.safetensors", {}, ["a", "b", "c"])
    save(here / "nameless.safetensors", {})
    save(here / "no_encoder.safetensors", STUDY)
    save(here / "no_data.safetensors", STUDY | {"data": {"name": "karpathy", "root": "nowhere"}})
    save_file({"a": torch.zeros(1)}, here / "later.safetensors", metadata={"format_version": "2"})
    (here / "broken.safetensors").write_bytes(b"no tensors")
    (here / "full").mkdir()
    (here / "full" / "kept.txt").write_text("mine", encoding="utf-8")


WRONG = [
    (["--out", "o"], "expected --set FILE, or a space whose own set is exported"),
    (["--set", "good.safetensors"], "expected --out FOLDER, or --register NAME"),
    (["--set", "good.safetensors", "--register", "a"], "--register keeps the own set of a finished study"),
    (["shapes_100", "--register", "a"], "the study is not finished, expected its set"),
    (["--set", "models:/good/1", "--out", "o"], "mlflow.db is not there, expected the database in which"),
    (["shapes_100", "--out", "o"], "there is no synthetic set here"),
    (["--set", "absent.safetensors", "--out", "o"], "absent.safetensors: there is no synthetic set here"),
    (["--set", "full", "--out", "o"], "full: there is no synthetic set here, expected learned.json"),
    (["--set", "broken.safetensors", "--out", "o"], "broken.safetensors: expected a synthetic set in safetensors"),
    (["--set", "later.safetensors", "--out", "o"], "later.safetensors: expected format_version 1"),
    (["--set", "good.safetensors", "--out", "full"], "full: there is something in it already"),
    (["--set", "good.safetensors", "--out", "good.safetensors"], "there is such a file already, expected a new folder"),
    (["--set", "good.safetensors", "--out", "s3://bucket/o"], "--out is 's3://bucket/o', expected a folder on this"),
    (["--set", "good.safetensors", "--out", "o", "--score"], "good.safetensors: it does not name its study"),
    (["--set", "nameless.safetensors", "--out", "o"], "nameless.safetensors: it does not name its study"),
    (["--set", "no_encoder.safetensors", "--out", "o"], "no-such-encoder"),
    (["--set", "no_data.safetensors", "--out", "o"], "nowhere"),
    (["--set", "no_data.safetensors", "--out", "o", "data.rot=x"], "data.rot"),
]


@pytest.mark.parametrize(("words", "told"), WRONG, ids=range(len(WRONG)))
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    words: list[str], told: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(here)
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert run(export, *words) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1), captured
    assert told in captured.err
    runs = here / "runs"  # what is cached of the data of a study may stay
    after = {p: p.read_bytes() for p in here.rglob("*") if p.is_file() and not p.is_relative_to(runs)}
    assert after == before
    assert not (here / "o").exists()
    assert not list(here.glob(".*"))
