"""The table in every format, and the command that writes them."""

import io
import re
from pathlib import Path
from typing import Any

import polars
import pytest

from engine.report import tables
from engine.report.study import Study
from engine.report.write import FORMATS, markdown, rendered, text, write_page
from engine.results.row import METRICS
from tasks import cli, report
from tests.report.studies import rows, write_study


def run(*words: str) -> int:
    return cli.run(report.main, list(words), parser=report.PARSER)


def test_csv_and_parquet_hold_the_same_numbers(study: Study) -> None:
    stored = polars.read_parquet(io.BytesIO(tables.as_file([study], "parquet")))
    again = polars.read_csv(io.BytesIO(tables.as_file([study], "csv")), schema_overrides=stored.schema)
    assert stored.equals(again.with_columns(polars.col(polars.String).replace("", None)).with_columns(
        stored.select(polars.col(polars.String)).get_columns()))  # fmt: skip
    assert stored.filter(~polars.col("published"))["mean_recall"].to_list() == [
        row.mean["mean_recall"] for row in rows()
    ]
    theirs = stored.filter(polars.col("published")).row(0, named=True)
    assert (theirs["name"], theirs["pairs"], theirs["IR1"], theirs["TR1"]) == ("LoRS", 100, 8.3, None)
    assert "arXiv 2406.03793" in theirs["protocol"]
    assert stored["commit"][0] == "35db3ea"
    assert stored["command"][0].startswith("vldistill distill ")
    assert {stored.schema[key] for key in METRICS} == {polars.Float64}


def test_the_frame_of_no_rows_has_the_same_columns(study: Study, unfinished: Study) -> None:
    assert tables.frame([unfinished]).filter(~polars.col("published")).schema == tables.frame([study]).schema


def test_latex_has_rows_that_balance(study: Study) -> None:
    told = tables.latex(study)
    lines = [line for line in told.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in lines} == {9}
    assert r"lors & 14 & \textbf{20.0 $\pm$ 1.0}" in told
    assert r"LoRS & 100 & 8.3 & -- &" in told
    assert told.count("{") - told.count(r"\{") == told.count("}") - told.count(r"\}")
    assert tables.escaped(r"50 % of a_b & \c") == r"50 \% of a\_b \& \textbackslash{}c"


def test_markdown_refers_to_the_files_of_its_figures(study: Study) -> None:
    told, files = markdown([study], folder="figures")
    assert sorted(re.findall(r"\]\(figures/(.*?)\)", told)) == sorted(files)
    assert {name.rpartition(".")[2] for name in files} == {"svg", "webp"}
    assert "| lors | 14 |" in told
    assert "- Selection: trial: " in told
    assert "- Retrieval: of 5,000 test captions" in told
    assert "| animals | 27.4 | 12.5 | 26.6 ± 4.4 | 1,251 | 20.2 | 49.9 |" in told
    assert "\n0. lost: two men" in told
    assert "\nCopies: 1 of 14 images" in text([study])
    assert "2. start: a dog; learned: a <b>cat</b>" in told.replace("\n1. ", "\n2. ")
    assert "\nvldistill distill --config" in told


def test_text_says_what_is_not_finished(study: Study, unfinished: Study) -> None:
    told = text([study, unfinished])
    assert told.startswith(f"{study.folder}\nset ")
    ours, theirs = told.split("published, not run here:")[:2]
    assert "LoRS" not in ours
    assert "27.4" in theirs
    assert f"{unfinished.folder}\nNot finished: it is still running" in told
    assert max(map(len, (line for line in told.splitlines() if not line.startswith("/")))) <= 120


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_of_every_state(form: str, study: Study, unfinished: Study) -> None:
    assert rendered([unfinished], form) or form == "latex"
    assert form == "html" or rendered([study, unfinished], form)


def test_the_page_is_written_beside_the_table(tmp_path: Path) -> None:
    file = write_page(write_study(tmp_path / "a-1", trials=0))
    assert file == tmp_path / "a-1" / "report.html"
    assert file.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("shapes_100-1", "other-2"):
        write_study(tmp_path / "runs" / "studies" / name, trials=0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_prints_or_writes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert "shapes_100-1\nset " in (told := capsys.readouterr().out)
    assert "other-2" not in told
    assert run("--all", "--format", "csv") == 0
    assert capsys.readouterr().out.count("\nshapes_100,") == len(rows()) + 1
    assert run("runs/studies/other-2", "--format", "html") == 0
    assert capsys.readouterr().out == f"{here}/runs/studies/other-2/report.html\n"
    assert run("--all", "--format", "md", "--out", "all.md") == 0
    assert {path.name for path in here.iterdir()} == {"runs", "all.md", "all_figures"}
    assert run("--markdown") == 0


WRONG: list[Any] = [
    (["--format", "parquet"], "command line: --format parquet has no --out, expected the file to write."),
    (["runs"], "expected the folder of a study, but it has no configuration.yaml"),
    (["flickr8k_100"], "no study of flickr8k_100 is here"),
]


@pytest.mark.parametrize(("words", "told"), WRONG, ids=range(len(WRONG)))
def test_a_mistake_is_one_line(words: list[str], told: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert told in captured.err


def test_the_command_offers_every_format() -> None:
    assert report.FORMATS == FORMATS
