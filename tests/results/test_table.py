import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.results.table import (
    METRICS,
    Row,
    ratio_interval,
    read,
    render_markdown,
    render_text,
    with_ratio,
    with_recovery,
    write,
)


def row(name: str, pairs: int, value: float, **rest: object) -> Row:
    scores = [dict.fromkeys(METRICS, value + shift) | {"seconds": 1.0} for shift in (-1.0, 0.0, 1.0)]
    return Row.of_seeds(name, pairs, scores, protocol="heads, 100 epochs", **rest)


@pytest.fixture
def rows() -> list[Row]:
    full = Row.of_seeds("all pairs", 29000, [dict.fromkeys(METRICS, 30.0)], full=True, protocol="heads, 100 epochs")
    return with_recovery(
        [
            row("random", 100, 6.0),
            row("a name that is longer than the column", 100, 21.0, note="searched", learning_rate=0.1, seconds=812),
            row("lors | 200", 200, 24.0, size=4_912_000),
            full,
        ]
    )


def test_means_deviations_and_recovery(rows: list[Row]) -> None:
    assert rows[1].mean == dict.fromkeys(METRICS, 21.0)
    assert rows[1].std == dict.fromkeys(METRICS, 1.0), "divided by n - 1"
    assert rows[3].std == {}, "one seed has no deviation"
    assert [row.recovery for row in rows] == pytest.approx([20, 70, 80, 100])


def test_recovery_needs_a_full_row_of_the_same_protocol() -> None:
    other = Row.of_seeds("all", 9, [{"mean_recall": 30.0}], full=True, protocol="another")
    assert with_recovery([row("random", 100, 6.0), other])[0].recovery is None


def test_text_is_aligned_and_fits(rows: list[Row]) -> None:
    lines = render_text([*rows, row("x" * 40, 100_000, 90.0)]).splitlines()
    assert max(map(len, lines)) <= 120
    assert len({line.index("±") for line in lines[2:5]}) == 1
    assert lines[0].split() == ["set", "pairs", *METRICS.values(), "rec.", "%"]
    assert lines[2].split() == ["random", "100", *["6.0±1.0"] * 7, "20.0"]
    assert "a name that is longer than the column: searched" in lines


def test_widest_numbers_still_fit() -> None:
    scores = [dict.fromkeys(METRICS, value) for value in (100.0, 80.0, 100.0)]
    wide = Row.of_seeds("n" * 99, 566_435, scores, protocol="p" * 300, note="w " * 200)
    assert max(map(len, render_text([wide]).splitlines())) <= 120


def test_markdown_marks_the_best_of_the_same_budget(rows: list[Row]) -> None:
    lines = render_markdown(rows).splitlines()
    assert "**" not in lines[2], "not the best"
    assert lines[3].count("**21.0 ± 1.0**") == 7
    assert "**" not in lines[4], "nothing to compare 200 pairs with"
    assert "**" not in lines[5], "the full data do not compete"
    assert "lors \\| 200" in lines[4]
    assert lines[3].endswith("| 70.0 | 28.2 | 3 | 0.1 | 14 min | - | - |")
    assert lines[4].endswith("| - | 4.9 MB |")


def test_round_trip(tmp_path: Path, rows: list[Row]) -> None:
    write(tmp_path / "out", rows)
    assert read(tmp_path / "out") == rows
    assert read(tmp_path / "out" / "table.json") == rows
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["table.csv", "table.json", "table.md"]
    header, first, *_ = (tmp_path / "out" / "table.csv").read_text().splitlines()
    values = dict(zip(header.split(","), first.replace('"heads, 100 epochs"', "heads").split(","), strict=True))
    assert (values["name"], values["IR1"], values["TR10_std"], values["learning_rate"]) == ("random", "6.0", "1.0", "")


def test_a_number_that_is_not_finite_becomes_a_dash(tmp_path: Path) -> None:
    write(tmp_path, [Row(name="broken", pairs=1, mean={"IR1": float("nan"), "IR5": 1.0})])
    assert json.loads((tmp_path / "table.json").read_text())["rows"][0]["mean"] == {"IR5": 1.0}
    assert render_text(read(tmp_path)).splitlines()[2].split()[:4] == ["broken", "1", "-", "1.0"]


def test_no_rows_is_a_table_too() -> None:
    assert render_text([]).startswith("set  pairs")
    assert render_markdown([]).startswith("| set | pairs |")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected a JSON file"),
        ("[]", "got format_version None, expected 1"),
        ('{"format_version": 2}', "got format_version 2, expected 1"),
        ('{"format_version": 1}', "got no list 'rows'"),
        ('{"format_version": 1, "rows": [{"name": "a"}]}', r"rows\[0\] is not a row"),
        ('{"format_version": 1, "rows": [3]}', r"rows\[0\] is not a row"),
        ('{"format_version": 1, "rows": [{"name": "a", "pairs": 1, "mean": {"r@1": 1}}]}', "got the metric 'r@1'"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(ValueError, match=rf"table\.json: .*{message}"):
        read(tmp_path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.json: expected a result table"):
        read(tmp_path / "nothing.json")


def of_students(name: str, pairs: int, *recalls: float, protocol: str = "p") -> Row:
    return Row.of_seeds(name, pairs, [{"TR1": recall} for recall in recalls], protocol=protocol)


def test_a_set_is_held_against_the_best_of_the_largest_coresets(tmp_path: Path) -> None:
    coresets = [of_students("small", 10, 9, 9), of_students("good", 50, 4, 6), of_students("bad", 50, 1, 1)]
    ours = with_ratio(replace(of_students("ours", 10, 10, 10), note="before"), coresets, torch.Generator())
    told = "TR@1 is 2.00 times that of 50 pairs of good (95 % bootstrap interval over students 1.67 to 2.50)"
    assert ours.note == f"before; {told}"
    write(tmp_path, [ours])
    assert read(tmp_path) == [ours]


@pytest.mark.parametrize(
    "coresets",
    [
        [],
        [of_students("small", 10, 9), of_students("one of whose students finds nothing", 50, 0, 2)],
        [replace(of_students("all pairs", 50, 4), full=True)],
        [of_students("other", 50, 4, protocol="q")],
        [Row(name="x", pairs=1, mean={})],
    ],
)
def test_a_set_that_nothing_can_be_held_against_gets_no_note(coresets: list[Row]) -> None:
    ours = of_students("ours", 10, 10)
    assert with_ratio(ours, coresets, torch.Generator()) == ours


def test_notes_of_rows_with_one_name_tell_their_pairs() -> None:
    rows = [Row(name="a", pairs=n, mean={"TR1": 1.0}, note=f"note {n}") for n in (5, 6)]
    assert "a, 5 pairs: note 5\na, 6 pairs: note 6\n" in render_text(rows)
    assert "\na: note 5\n" in render_text(rows[:1])


def test_ratio_interval() -> None:
    def drawn(seed: int) -> tuple[float, float, float]:
        return ratio_interval(
            [20.0, 21.0, 22.0, 19.0], [10.0, 10.5, 9.5], torch.Generator().manual_seed(seed), draws=99
        )

    ratio, low, high = drawn(0)
    assert ratio == pytest.approx(2.05)
    assert 1.85 < low < ratio < high < 2.25
    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)
    assert ratio_interval([3.0], [2.0], torch.Generator()) == (1.5, 1.5, 1.5)


@pytest.mark.parametrize(("a", "b"), [([], [1.0]), ([1.0], []), ([1.0], [1.0, 0.0])])
def test_ratio_of_nothing(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="expected numbers on both sides"):
        ratio_interval(a, b, torch.Generator())


def test_ratio_interval_covers() -> None:
    """Of 200 samples of 20 seeds whose true ratio is 2, roughly 95 % of the intervals hold it."""
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(200):
        a, b = (torch.randn(20, generator=generator).add(mean).tolist() for mean in (20.0, 10.0))
        _, low, high = ratio_interval(a, b, generator, draws=400)
        hits += low < 2 < high
    assert 0.88 <= hits / 200 <= 0.99
