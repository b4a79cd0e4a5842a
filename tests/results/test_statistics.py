import math
import statistics
from dataclasses import replace

import pytest
import torch

from engine.results.row import Provenance, Row
from engine.results.statistics import ratio_interval, replicated, with_ratio, with_recovery
from tests.results.rows import HERE, of_students, row


def test_recovery() -> None:
    full = Row.of_seeds("all pairs", 29000, [{"mean_recall": 30.0}], full=True, protocol="heads, 100 epochs")
    random = row("random", 100, 6.0, coreset="random")
    rows = with_recovery([random, row("ours", 100, 21.0), row("ours", 200, 24.0), full])
    assert [one.recovery for one in rows] == pytest.approx([20, 70, 80, 100])
    # exp((0.15 - 0.09) / 2), between those of recalls -1 and 1
    expected = 100 * (math.exp(0.03) - math.exp(-1)) / (math.e - math.exp(-1))
    assert rows[1].robustness == pytest.approx(expected)
    assert [one.robustness is None for one in rows] == [False, False, True, True]


def test_robustness_compares_with_the_coreset_and_with_no_set_of_its_name() -> None:
    full = Row.of_seeds("all pairs", 29000, [{"mean_recall": 30.0}], full=True, protocol="heads, 100 epochs")
    chance, own = row("random (best on test)", 100, 6.0, coreset="random"), row("random", 100, 21.0)
    expected = 100 * (math.exp(0.03) - math.exp(-1)) / (math.e - math.exp(-1))
    for rows in ([own, chance, full], [chance, own, full]):
        found = with_recovery(rows)[rows.index(own)]
        assert found.robustness == pytest.approx(expected)


def test_recovery_needs_a_full_row_of_the_same_protocol() -> None:
    other = Row.of_seeds("all", 9, [{"mean_recall": 30.0}], full=True, protocol="another")
    assert with_recovery([row("random", 100, 6.0), other])[0].recovery is None


def test_replicates_are_averaged_and_the_note_says_what_is_averaged() -> None:
    rows = [row("a", 5, m, learning_rate=0.1 * m, memory=m, seconds=m) for m in (1, 3)]
    found = replicated("b", [replace(rows[0], std={"mean_recall": 2.0}), replace(rows[1], std={"mean_recall": 4.0})])
    assert (found.name, found.mean["mean_recall"], found.std) == ("b", 2, {"mean_recall": 3.0})
    assert (found.seconds, found.memory, found.seeds) == (2, 3, 3)
    assert found.by_student["TR1"] == [[0, 1, 2], [2, 3, 4]]
    assert found.note == (
        "mean of 2 distillations, whose mean recalls have a standard deviation of 1.41; ± is the mean of their ±"
    )
    assert found.learning_rate is None, "that of the first would not be that of the others"
    assert replicated("b", rows[:1]).learning_rate == 0.1


def test_replicates_keep_the_provenance_of_each() -> None:
    other = replace(HERE, commit="1234567")
    rows = [row("a", 5, 1.0, made_by=[one]) for one in (HERE, other, Provenance())]
    assert replicated("b", rows).made_by == [HERE, other, Provenance()]


def test_one_distillation_gets_an_interval_over_its_students_and_says_so() -> None:
    coresets = [of_students("small", 10, 9, 9), of_students("good", 50, 4, 6), of_students("bad", 50, 1, 1)]
    ours = with_ratio(replace(of_students("ours", 10, 10, 10), note="before"), coresets, torch.Generator())
    before, ratio = ours.note.split("; ")
    assert before == "before"
    assert ratio.startswith("TR@1 is 2.00 times that of 50 pairs of good, the best coreset on test (95 % t interval ")
    assert ratio.endswith("over 2 students of one distillation and 2 students of the coreset)")


def test_several_distillations_get_an_interval_over_their_means() -> None:
    ours = replicated("ours", [row("a", 10, value) for value in (10.0, 10.0, 10.0)])
    coreset = row("good", 50, 5.0)
    found = with_ratio(replace(ours, note=""), [coreset], torch.Generator()).note
    assert found.endswith("over 3 distillations and 3 students of the coreset)")
    low, high = ratio_interval([10.0] * 3, [4.0, 5.0, 6.0], torch.Generator())
    assert f"interval {low:.2f} to {high:.2f} over" in found


def test_a_single_student_gives_a_ratio_without_an_interval() -> None:
    found = with_ratio(of_students("ours", 10, 10), [of_students("good", 50, 4, 6)], torch.Generator()).note
    assert found == (
        "TR@1 is 2.00 times that of 50 pairs of good, the best coreset on test "
        "(no interval, which takes two students or distillations on each side)"
    )


@pytest.mark.parametrize(
    "coresets",
    [
        [],
        [of_students("small", 10, 9), of_students("finds nothing", 50, 0, 0)],
        [replace(of_students("all pairs", 50, 4), full=True)],
        [of_students("other", 50, 4, protocol="q")],
        [Row(name="x", pairs=1, mean={})],
    ],
)
def test_a_set_without_a_coreset_to_compare_with_gets_no_note(coresets: list[Row]) -> None:
    ours = of_students("ours", 10, 10)
    assert with_ratio(ours, coresets, torch.Generator()) == ours


def test_ratio_interval_of_equal_errors_is_that_of_the_t_distribution() -> None:
    low, high = ratio_interval([9.9, 10.0, 10.1], [5.0, 5.0], torch.Generator())
    half = 4.3027 * 0.1 / math.sqrt(3) / 10  # two degrees of freedom, and no error below
    assert (math.log(low / 2), math.log(high / 2)) == pytest.approx((-half, half), rel=0.03)


def test_ratio_interval_depends_on_the_generator_alone() -> None:
    def drawn(seed: int) -> tuple[float, float]:
        return ratio_interval([20.0, 21.0, 22.0], [10.0, 9.5], torch.Generator().manual_seed(seed), draws=99)

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)


@pytest.mark.parametrize(("a", "b"), [([], [1.0, 2.0]), ([1.0, 2.0], [1.0]), ([1.0, 2.0], [0.0, 0.0])])
def test_ratio_of_too_little(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="expected two values or more on each side"):
        ratio_interval(a, b, torch.Generator())


@pytest.mark.parametrize("student_sd", [0.1, 0.5])
def test_the_interval_over_distillations_covers_the_true_ratio(student_sd: float) -> None:
    """Of 300 tables of 3 distillations with 5 students each, 95 % of the intervals hold the ratio of the true means.

    The standard deviation is 0.3 between distillations and 0.5 between students of one; ``student_sd`` is that of the
    coreset's students. An interval over all fifteen students as if they were independent holds it less often.
    """
    generator, hits, pooled_hits = torch.Generator().manual_seed(0), 0, 0
    for _ in range(300):
        centres = 11.8 + 0.3 * torch.randn(3, 1, generator=generator)
        students = (centres + 0.5 * torch.randn(3, 5, generator=generator)).tolist()
        coreset = of_students("coreset", 1000, *(7.2 + student_sd * torch.randn(5, generator=generator)).tolist())
        mean = {"TR1": statistics.fmean(map(statistics.fmean, students))}
        nested = Row(name="ours", pairs=100, mean=mean, seeds=5, protocol="p", by_student={"TR1": students})
        pooled = replace(nested, by_student={"TR1": [[one for group in students for one in group]]})
        found, naive = (with_ratio(one, [coreset], generator).note for one in (nested, pooled))
        hits += holds(found, 11.8 / 7.2)
        pooled_hits += holds(naive, 11.8 / 7.2)
    assert 0.90 <= hits / 300 <= 0.99
    assert pooled_hits < hits


def holds(note: str, ratio: float) -> bool:
    """Say whether the interval of a note holds a ratio."""
    low, high = (float(part.split()[0]) for part in note.partition("interval ")[2].split(" to "))
    return low <= ratio <= high
