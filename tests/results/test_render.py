from dataclasses import replace
from pathlib import Path

import pytest

from engine.results.files import read_table, write_table
from engine.results.render import render_markdown, render_text
from engine.results.row import METRICS, Provenance, Row
from engine.results.statistics import with_recovery
from tests.results.rows import HERE, row


@pytest.fixture
def rows() -> list[Row]:
    full = Row.of_seeds("all pairs", 29000, [dict.fromkeys(METRICS, 30.0)], full=True, protocol="heads, 100 epochs")
    return with_recovery(
        [
            row("random", 100, 6.0, coreset="random"),
            row("ours", 100, 21.0, note="searched", learning_rate=0.1, seconds=812),
            row("lors | 200", 200, 24.0, size=4_912_000),
            replace(full, made_by=[HERE]),
        ]
    )


TEXT = """\
set         pairs      IR@1      IR@5     IR@10      TR@1      TR@5     TR@10      mean  rec. %
───────────────────────────────────────────────────────────────────────────────────────────────
random        100   6.0±1.0   6.0±1.0   6.0±1.0   6.0±1.0   6.0±1.0   6.0±1.0   6.0±1.0    20.0
ours          100  21.0±1.0  21.0±1.0  21.0±1.0  21.0±1.0  21.0±1.0  21.0±1.0  21.0±1.0    70.0
lors | 200    200  24.0±1.0  24.0±1.0  24.0±1.0  24.0±1.0  24.0±1.0  24.0±1.0  24.0±1.0    80.0
all pairs   29000  30.0      30.0      30.0      30.0      30.0      30.0      30.0       100.0
Protocol: heads, 100 epochs
± is the standard deviation over 3 student seeds.
ours: searched
Made by: commit 35db3ea, torch 2.15.0, ray 2.60.0, CPU, 2 threads
"""


def sevenfold(cell: str) -> str:
    """Return one cell for each metric."""
    return " | ".join([cell] * 7)


MARKDOWN = f"""\
| set | pairs | {" | ".join(METRICS.values())} | recovery % | robustness | seeds | student lr | time | memory | size |
| --- | ---: | {sevenfold("---:")} | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| random | 100 | {sevenfold("6.0 ± 1.0")} | 20.0 | 22.1 | 3 | - | - | - | - |
| ours | 100 | {sevenfold("**21.0 ± 1.0**")} | 70.0 | 28.2 | 3 | 0.1 | 14 min | - | - |
| lors \\| 200 | 200 | {sevenfold("24.0 ± 1.0")} | 80.0 | - | 3 | - | - | - | 4.9 MB |
| all pairs | 29000 | {sevenfold("30.0")} | 100.0 | - | 1 | - | - | - | - |

Protocol: heads, 100 epochs

± is the standard deviation over 3 student seeds.

ours: searched

Made by: commit 35db3ea, torch 2.15.0, ray 2.60.0, CPU, 2 threads

Bold is the largest mean among sets with as many pairs; differences may be smaller than ±.
"""


def test_text(rows: list[Row]) -> None:
    assert render_text(rows) == TEXT


def test_markdown(rows: list[Row]) -> None:
    assert render_markdown(rows) == MARKDOWN


def test_nothing_is_bold_where_nothing_competes(rows: list[Row]) -> None:
    alone = render_markdown([rows[1], *rows[2:]])
    assert "**" not in alone
    assert "Bold is" not in alone


def test_the_widest_table_fits() -> None:
    scores = [dict.fromkeys(METRICS, value) for value in (100.0, 80.0, 100.0)]
    wide = Row.of_seeds("n" * 99, 566_435, scores, protocol="p" * 300, note="w " * 200)
    lines = render_text([wide, row("a name that is longer than the column", 100, 9.0)]).splitlines()
    assert max(map(len, lines)) <= 120
    assert len({line.index("±") for line in lines[2:4]}) == 1
    assert [line[:26].rstrip() for line in lines[2:5]] == [f"{'n' * 25}…", "a name that is longer than", "the column"]


def test_no_rows_is_a_table_too() -> None:
    assert render_text([]).startswith("set  pairs")
    assert render_markdown([]).startswith("| set | pairs |")


def test_notes_of_rows_with_one_name_are_told_apart_by_pairs() -> None:
    rows = [Row(name="a", pairs=n, mean={"TR1": 1.0}, note=f"note {n}") for n in (5, 6)]
    assert "a, 5 pairs: note 5\na, 6 pairs: note 6\n" in render_text(rows)
    assert "\na: note 5\n" in render_text(rows[:1])


def test_rows_are_named_where_they_were_made_by_different_code() -> None:
    other = replace(HERE, commit="1234567")
    rows = [row("a", 5, 1.0), row("a", 6, 1.0, made_by=[other]), row("b", 5, 1.0, made_by=[HERE, Provenance()])]
    rows += [row("c", 5, 1.0), row("d", 5, 1.0, made_by=[Provenance()])]
    assert render_text(rows).splitlines()[-4:] == [
        "Made by (a, 5 pairs; c): commit 35db3ea, torch 2.15.0, ray 2.60.0, CPU, 2 threads",
        "Made by (a, 6 pairs): commit 1234567, torch 2.15.0, ray 2.60.0, CPU, 2 threads",
        "Made by (b): commit 35db3ea, torch 2.15.0, ray 2.60.0, CPU, 2 threads and not recorded",
        "Made by (d): not recorded",
    ]


def test_what_the_splits_share_is_said_once_and_kept(tmp_path: Path) -> None:
    rows = [row(name, 100, 6.0, data="the splits share 0 photos") for name in ("random", "ours")]
    assert "\nData: the splits share 0 photos\n" in render_text(rows)
    write_table(tmp_path, rows)
    assert {one.data for one in read_table(tmp_path)} == {"the splits share 0 photos"}
