import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.results.files import read_table, write_table
from engine.results.render import render_text
from engine.results.row import Provenance, Row
from engine.results.statistics import replicated, with_recovery
from tests.results.rows import HERE, row


def test_round_trip(tmp_path: Path) -> None:
    made = replace(HERE, weights={"image": "12", "text": "34"})
    rows = with_recovery([row("random", 100, 6.0, made_by=[made]), row("all", 900, 30.0, full=True)])
    rows.append(replicated("ours", [row("a", 100, 9.0), row("a", 100, 8.0, made_by=[Provenance()])]))
    write_table(tmp_path / "out", rows)
    assert read_table(tmp_path / "out") == rows
    assert read_table(tmp_path / "out" / "table.json") == rows
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["table.csv", "table.json", "table.md"]


def test_csv_names_what_made_a_row(tmp_path: Path) -> None:
    other = replace(HERE, commit="1234567", weights={"image": "12", "text": "34"})
    write_table(tmp_path, [row("random", 100, 6.0, made_by=[HERE, other])])
    with (tmp_path / "table.csv").open(encoding="utf-8") as handle:
        [values] = csv.DictReader(handle)
    assert (values["name"], values["IR1"], values["TR10_std"], values["learning_rate"]) == ("random", "6.0", "1.0", "")
    assert (values["commit"], values["code"]) == ("35db3ea / 1234567", "c0de")
    assert (values["versions"], values["weights"]) == ("torch 2.15.0, ray 2.60.0", " / image 12, text 34")
    assert values["device"] == "CPU, 2 threads"


def test_a_table_of_version_1_is_read_without_provenance(tmp_path: Path) -> None:
    old = {"name": "ours", "pairs": 9, "mean": {"TR1": 2.0}, "seeds": 2, "by_student": {"TR1": [1.0, 2.0, 2.0, 3.0]}}
    (tmp_path / "table.json").write_text(json.dumps({"format_version": 1, "rows": [old]}))
    [found] = read_table(tmp_path)
    assert found.by_student == {"TR1": [[1.0, 2.0], [2.0, 3.0]]}, "two distillations of two students"
    assert found.made_by == [Provenance()]
    assert "Made by: not recorded\n" in render_text([found])


def test_a_number_that_is_not_finite_becomes_a_dash(tmp_path: Path) -> None:
    write_table(tmp_path, [Row.of_seeds("broken", 1, [{"IR1": float("nan"), "IR5": 1.0}])])
    [stored] = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert (stored["mean"], stored["by_student"]) == ({"IR5": 1.0}, {"IR5": [[1.0]]})
    assert render_text(read_table(tmp_path)).splitlines()[2].split()[:4] == ["broken", "1", "-", "1.0"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected a JSON file"),
        ("[]", "got format_version None, expected 1 or 2"),
        ('{"format_version": 3}', "got format_version 3, expected 1 or 2"),
        ('{"format_version": 2}', "got no list 'rows'"),
        ('{"format_version": 1, "rows": [{"name": "a"}]}', r"rows\[0\] is not a row"),
        ('{"format_version": 2, "rows": [3]}', r"rows\[0\] is not a row"),
        ('{"format_version": 2, "rows": [{"name": "a", "pairs": 1, "mean": {"r@1": 1}}]}', "got the metric 'r@1'"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(ValueError, match=rf"table\.json: .*{message}"):
        read_table(tmp_path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.json: expected a result table"):
        read_table(tmp_path / "nothing.json")
