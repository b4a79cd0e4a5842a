"""Benchmarks can be imported, agree on what they offer, and share one table; none is run here."""

import math
import pkgutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, is_dataclass, replace
from importlib import import_module
from pathlib import Path

import pytest
import torch

import benchmarks
from benchmarks import common, scale
from benchmarks.__main__ import NAMES, WITHOUT_CLAIMS
from benchmarks.common import Row, check_same, cosine, difference, interleave, peak, table

OTHERS = {"__main__", "common", "cuda", "scale"}


def test_every_benchmark_is_run_by_the_command_or_known_as_another() -> None:
    found = {module.name for module in pkgutil.iter_modules(benchmarks.__path__)}
    assert found - OTHERS == {*NAMES, *WITHOUT_CLAIMS}


@pytest.mark.parametrize("name", [*NAMES, *WITHOUT_CLAIMS])
def test_a_benchmark_has_sizes_and_a_measure(name: str) -> None:
    module = import_module(f"benchmarks.{name}")
    assert is_dataclass(module.Size)
    assert isinstance(module.SMALLEST, module.Size)
    assert module.__doc__
    assert f"python -m benchmarks.{name}" in module.__doc__
    assert callable(module.measure)


def test_the_table_says_whether_a_goal_is_met_and_why_not() -> None:
    rows = [
        Row("a", "x", "1 s", "2 s", 0.5, "<= 0.6"),
        Row("b", "x", "1 s", "2 s", 2.0, ">= 6", "too small"),
        Row("c", "x", "-", "-", math.nan, ">= 5", "needs a GPU"),
        Row("d", "x", "1 s", "2 s", 2.0, ""),
    ]
    *_, a, b, c, d = table(rows).splitlines()
    assert a.endswith("| 0.5   | <= 0.6 | yes |")
    assert b.endswith("| no: too small |")
    assert c.endswith("| -     | >= 5   | not run: needs a GPU |")
    assert d.endswith("| -      | - |")
    assert "too small" not in table(rows, judged=False)


def test_sides_that_differ_end_the_benchmark() -> None:
    ours, theirs = {"a": torch.tensor([3.0, 4.0])}, {"a": torch.tensor([3.0, 4.5])}
    assert difference(ours, theirs) == pytest.approx(0.5 / math.hypot(3.0, 4.5))
    check_same("numbers", difference(ours, ours), limit=0)
    with pytest.raises(SystemExit, match="numbers: both sides differ by"):
        check_same("numbers", difference(ours, theirs), limit=1e-3)
    with pytest.raises(SystemExit):
        check_same("numbers", math.nan, limit=1e-3)


@dataclass(frozen=True)
class Size:
    away: float = 0.0


def measure(size: Size) -> Iterator[Row]:
    if size.away >= 0:
        check_same("numbers", size.away, limit=1.0)
    yield Row("a", "x", "1 s", "2 s", 0.5, "")


@pytest.mark.parametrize(("away", "error"), [(0.5, ""), (2.0, "both sides differ"), (-1.0, "nothing was compared")])
def test_a_claim_of_the_smallest_size_compares_both_sides(
    away: float, error: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(common, "compared", [])
    monkeypatch.setattr("sys.argv", ["a", "--smallest", f"--away={away}", "--rows", str(tmp_path / "rows.json")])
    with pytest.raises(SystemExit, match=error) if error else nullcontext():
        common.main("A claim.", Size, Size(), measure)
    assert (tmp_path / "rows.json").exists() == (not error)


def test_the_cosine_is_that_of_all_numbers() -> None:
    ours, theirs = (
        {"a": torch.tensor([1.0]), "b": torch.tensor([[0.0]])},
        {"a": torch.tensor([3.0]), "b": torch.ones(1, 1)},
    )
    assert cosine(ours, theirs) == pytest.approx(3 / math.sqrt(10))


def test_ways_are_called_in_turn() -> None:
    called: list[str] = []
    spent, results = interleave({name: lambda name=name: called.append(name) or name for name in "ab"}, 2)
    assert called == ["a", "b", "a", "b"]
    assert results == {"a": "a", "b": "b"}
    assert spent["a"].clock >= 0


def test_the_peak_counts_what_was_held_for_a_moment() -> None:
    _, above, number = peak(lambda: len(bytearray(64 * 2**20)))
    assert number == 64 * 2**20
    assert math.isnan(above) or 60 * 2**20 < above < 80 * 2**20


def test_the_page_about_scale_holds_what_is_computed_from_the_measured_rates() -> None:
    root = Path(benchmarks.__path__[0]).parent
    assert scale.tables(scale.Job()) in (root / "docs" / "scale.md").read_text(encoding="utf-8")
    measured = (root / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    for (scope, precision), (rate, step) in scale.RATES.items():
        assert f"| {scope} | exact | {precision} | {step} |" in measured
        assert f"{rate:,}," in measured


def test_further_gpus_shorten_experts_and_trials_until_each_has_its_own() -> None:
    job = replace(scale.Job(), experts=4, trials=2)
    one, two, many = (scale.hours(job, "full", "FP32", gpus) for gpus in (1, 2, 64))
    assert two == pytest.approx((one[0] / 2, one[1] / 2))
    assert many == pytest.approx((one[0] / 4, one[1] / 2))
    assert scale.hours(job, "full", "FP32", 4) == pytest.approx(many)
