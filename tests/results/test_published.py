"""Published rows stand below ours, under a title of their own, with where they are from."""

from dataclasses import replace

from engine.results import published
from engine.results.published import PublishedRow
from engine.results.row import METRICS

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
