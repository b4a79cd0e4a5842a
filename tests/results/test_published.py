"""Published rows stand below ours, under a title of their own, with where they are from."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine.results import published
from engine.results.files import write_table
from engine.results.published import PublishedRow
from engine.results.report import render, render_published
from engine.results.row import METRICS, Row

LORS = PublishedRow(
    name="LoRS",
    pairs=100,
    source="arXiv 2406.03793",
    protocol="best epoch on test",
    mean={"IR1": 8.3, "mean_recall": 27.4},
    std={"IR1": 0.2},
)


def test_text_has_a_title_and_every_source() -> None:
    lines = published.render_text([LORS]).splitlines()
    assert lines[0] == "published, not run here:"
    assert lines[3].split() == ["LoRS", "100", "8.3±0.2", "-", "-", "-", "-", "-", "27.4"]
    assert lines[-1] == "Published: arXiv 2406.03793; best epoch on test."
    assert not any("student seeds" in line for line in lines)


def test_rows_of_one_source_share_a_line() -> None:
    other, elsewhere = replace(LORS, name="MDM"), replace(LORS, name="AMD", source="a page")
    shared, *rest = published.render_text([LORS, other]).splitlines()[5:]
    assert (shared, rest) == ("Published: arXiv 2406.03793; best epoch on test.", [])
    assert published.render_text([LORS, replace(LORS, pairs=200), elsewhere, other]).splitlines()[-2:] == [
        "Published (LoRS; MDM): arXiv 2406.03793; best epoch on test.",
        "Published (AMD): a page; best epoch on test.",
    ]


def test_markdown_has_them_too() -> None:
    lines = published.render_markdown([LORS]).splitlines()
    assert lines[0] == f"| published, not run here | pairs | {' | '.join(METRICS.values())} |"
    assert lines[2] == "| LoRS | 100 | 8.3 ± 0.2 | - | - | - | - | - | 27.4 |"
    assert lines[-1] == "Published: arXiv 2406.03793; best epoch on test."


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    for name in ("a-1", "b-1"):
        write_table(tmp_path / "studies" / name, [Row(name="lors", pairs=99, mean={"mean_recall": 20.0})])
    return tmp_path


@pytest.mark.parametrize("markdown", [False, True])
def test_a_study_is_followed_by_its_published_rows(storage: Path, markdown: bool) -> None:
    def rows(configuration: Path) -> list[PublishedRow]:
        assert configuration.name == "configuration.yaml"
        return [LORS] if configuration.parent.name == "a-1" else []

    shown = render(storage, name="a", published_rows=rows, markdown=markdown)
    ours, theirs = shown.split("published, not run here")
    assert "LoRS" not in ours
    assert "20.0" not in theirs
    assert "published, not" not in render(storage, name="b", published_rows=rows, markdown=markdown)
    assert render_published([LORS], markdown=markdown) in shown


def test_without_published_rows_nothing_is_added(storage: Path) -> None:
    assert "published, not run here" not in render(storage)
