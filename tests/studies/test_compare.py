"""One table of several studies, and what is not run twice."""

from pathlib import Path

import pytest
import yaml

from engine.config.comparison import entries, read_comparison
from engine.config.errors import ConfigError
from engine.results.files import read_table
from engine.studies.compare import compare, dry_run
from tests.runs import recorded_rows
from tests.tiny import SPACE, tiny_job

LINES = [
    {"name": "exact", "replicates": 2, "pairs": [6]},
    {"name": "lors", "set": {"method": {"name": "lors", "inner_steps": 2}, "optimiser.similarity_lr": 0.01}},
]
TABLE = {
    "space": str(SPACE),
    "set": {"budget.outer_steps": 2, "baselines.coresets": ["random"]},
    "pairs": [6, 8],
    "coreset_pairs": [4, 6, 8],
    "lines": LINES,
    "transfer": [
        {"name": "other towers", "set": {"student.image.width": 4, "student.text": {"encoder": "tfidf", "dim": 8}}},
    ],
    "published": {
        "source": "a page",
        "protocol": "theirs",
        "recalls": [{"name": "their set", "pairs": 6, "mean": {"IR1": 3}}],
    },
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(TABLE))
    return file


def test_every_line_is_a_study_a_budget_and_a_seed(path: Path) -> None:
    found = [
        (one.line.name, one.pairs, one.seed, one.study.method.name) for one in entries(read_comparison(str(path)), {})
    ]
    assert found == [
        ("exact", 6, 0, "bi_trajectory"),
        ("exact", 6, 1, "bi_trajectory"),
        ("lors", 6, 0, "lors"),
        ("lors", 8, 0, "lors"),
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_command_gives_one_table_and_others_only_read_its_studies(
    ray_local: None, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = {"storage": str(tmp_path / "runs")}
    rows = compare(str(path), read_comparison(str(path)), overrides, local=False)
    assert [(row.name, row.pairs) for row in rows] == [
        ("random", 4),
        ("random", 6),
        ("exact", 6),
        ("lors", 6),
        ("random", 8),
        ("lors", 8),
        ("all pairs", 300),
        ("exact, other towers", 6),
        ("random, other towers", 6),
        ("all pairs, other towers", 300),
    ]
    assert rows[7].note.startswith("an unseen student: image convnet width 4 ")
    mapped = (
        "; its texts are mapped linearly from the text encoder that they were learned with; mean of 2 distillations"
    )
    assert mapped in rows[7].note
    assert [len(students) for students in rows[7].by_student["TR1"]] == [rows[7].seeds] * 2
    assert "distillations" not in rows[8].note
    exact, largest = rows[2], rows[4]
    assert exact.note.startswith("mean of 2 distillations")
    divisible = min(largest.mean["TR1"], exact.mean["TR1"]) > 0  # one test image is five percent
    assert [row.name for row in rows if "; TR@1 is " in row.note] == ["exact"] * divisible
    assert "unseen students (1): mean recall" in exact.note
    assert exact.robustness is not None
    assert exact.memory is not None
    assert [len(students) for students in exact.by_student["TR1"]] == [exact.seeds, exact.seeds]
    assert all(row.recovery is not None for row in rows)
    assert read_table(tmp_path / "runs" / "tables" / "small") == rows
    runs = recorded_rows(tiny_job(tmp_path / "runs"))
    tags = next(run.tags for run in runs if run.name == "exact, other towers, 6 pairs")
    assert (tags["student"], tags["unseen"], tags["kind"]) == ("other towers", "true", "set")
    of_rows = [run.name for run in runs]
    assert set(of_rows) >= {f"{row.name}, {row.pairs} pairs" for row in rows}
    assert of_rows.count("small_6_exact, 6 pairs") == 2, "each of the distillations that a row averages"
    ours, theirs = capsys.readouterr().out.split("published, not run here:")
    assert "their set" not in ours
    assert "their set" in theirs
    assert "Published: a page; theirs." in theirs
    assert dry_run(str(path), read_comparison(str(path)), overrides).count("finished in") == 4
    files = sorted((tmp_path / "runs" / "studies").rglob("*"))
    assert compare(str(path), read_comparison(str(path)), overrides, local=False) == rows
    assert sorted((tmp_path / "runs" / "studies").rglob("*")) == files

    renamed = tmp_path / "other.yaml"
    renamed.write_text(yaml.safe_dump({**TABLE, "lines": [{**line, "name": f"{line['name']}!"} for line in LINES]}))
    assert dry_run(str(renamed), read_comparison(str(renamed)), overrides).count("finished in") == 4


def test_a_study_keeps_its_folder_under_any_name(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    assert job.folder == tmp_path / "studies" / f"tiny-{job.key}"
    for name in ("begun", "ended", "zipped"):
        (tmp_path / "studies" / f"{name}-{job.key}").mkdir(parents=True)
    (tmp_path / "studies" / f"ended-{job.key}" / "table.json").touch()
    again = tiny_job(tmp_path)
    assert again.folder.name == f"ended-{job.key}"
    assert again.finished
    assert tiny_job(tmp_path, "seed=1").folder.name.startswith("tiny-")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"lines": [{"name": "a", "sets": {}}]}, r"lines\.0\.sets"),
        ({"pairs": []}, "pairs"),
        ({"lines": []}, "lines"),
        ({"transfer_lines": ["none"]}, "transfer_lines is 'none', expected names of lines with 6 pairs, exact, lors"),
    ],
)
def test_a_wrong_table_is_one_sentence(change: dict, told: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump({**TABLE, **change}))
    with pytest.raises(ConfigError, match=told):
        read_comparison(str(file))


def test_an_unknown_table_names_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"^command line: the table is 'nonesuch', expected .* shapes"):
        read_comparison("nonesuch")
