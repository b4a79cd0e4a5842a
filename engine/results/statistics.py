"""Statistics of result rows: averages over distillations, recovery, robustness, and ratios with intervals."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from engine.results.row import Row
from engine.rng import draw_seed


def replicated(name: str, rows: Sequence[Row]) -> Row:
    """Average the rows of several distillations of one study; ``memory`` is the largest.

    The ± of the result is the mean of their standard deviations over student seeds; a note says so and gives the
    standard deviation of mean recall between distillations.
    """
    first = rows[0]
    seconds = [row.seconds for row in rows if row.seconds is not None]
    note = ""
    if len(rows) > 1:
        between = statistics.stdev(row.mean["mean_recall"] for row in rows)
        note = (
            f"mean of {len(rows)} distillations, whose mean recalls have a standard deviation of {between:.2f}; "
            "± is the mean of their ±"
        )
    return replace(
        first,
        name=name,
        mean={key: statistics.fmean(row.mean[key] for row in rows) for key in first.mean},
        std={key: statistics.fmean(row.std[key] for row in rows) for key in first.std},
        recovery=None,
        robustness=None,
        learning_rate=first.learning_rate if len({row.learning_rate for row in rows}) == 1 else None,
        seconds=statistics.fmean(seconds) if seconds else None,
        memory=max((row.memory for row in rows if row.memory is not None), default=None),
        note=note,
        by_student={
            key: [students for row in rows for students in row.by_student[key]]
            for key in first.by_student
            if all(key in row.by_student for row in rows)
        },
        made_by=[one for row in rows for one in row.made_by],
    )


def with_recovery(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with ``recovery`` and ``robustness`` where the same protocol has the rows that these need.

    Recovery needs a full-data row (the first counts), robustness also the coreset ``random`` with as many pairs.
    """
    scored = [row for row in rows if "mean_recall" in row.mean]
    full = {row.protocol: row.mean["mean_recall"] for row in reversed(scored) if row.full}
    chance = {(row.protocol, row.pairs): row.mean["mean_recall"] for row in scored if row.coreset == "random"}
    compared = []
    for row in rows:
        recall, highest = row.mean.get("mean_recall"), full.get(row.protocol)
        lowest = chance.get((row.protocol, row.pairs))
        if recall is not None and highest:
            row = replace(row, recovery=100 * recall / highest)
            if lowest is not None and not row.full:
                row = replace(row, robustness=robustness_score(recall, full=highest, chance=lowest))
        compared.append(row)
    return compared


def robustness_score(recall: float, *, full: float, chance: float) -> float:
    """Return in percent how far a set is above random pairs and how close to all pairs; recalls in percent.

    (e^a - e^-1) / (e - e^-1) with a = ((recall - chance) - (full - recall)) / 2, recalls as shares of 1.

    References:
        DD-Ranking, arXiv 2505.13300. There the accuracies of students with hard and with soft labels enter, here one
        mean recall under the protocol of the table.
    """
    exponent = 0.5 * (recall - chance) / 100 - 0.5 * (full - recall) / 100
    return 100 * (math.exp(exponent) - math.exp(-1)) / (math.e - math.exp(-1))


def with_ratio(row: Row, real: Sequence[Row], generator: torch.Generator) -> Row:
    """Append to the note of ``row`` its TR@1 over that of a coreset in ``real``, with an interval.

    The coreset is the one with the largest TR@1 on test among the largest coresets of the same protocol. The interval
    is over distillations where the row has several, else over the students of its one distillation, which leaves out
    how distillations vary; on the side of the coreset it is over students. A side with one value gives no interval.
    The row is returned unchanged where the students of either side are unknown or a TR@1 is zero.
    """
    rivals = [one for one in real if not one.full and one.protocol == row.protocol and one.by_student.get("TR1")]
    best = max(rivals, key=lambda one: (one.pairs, one.mean["TR1"]), default=None)
    distillations = row.by_student.get("TR1", [])
    if best is None or not distillations or min(row.mean["TR1"], best.mean["TR1"]) <= 0:
        return row
    several = len(distillations) > 1
    ours = [statistics.fmean(students) for students in distillations] if several else distillations[0]
    theirs = [recall for students in best.by_student["TR1"] for recall in students]
    unit = "distillations" if several else "students of one distillation"
    interval = "no interval, which takes two students or distillations on each side"
    if min(len(ours), len(theirs)) > 1:
        low, high = ratio_interval(ours, theirs, generator)
        values = f"{len(ours)} {unit} and {len(theirs)} students of the coreset"
        interval = f"95 % t interval {low:.2f} to {high:.2f} over {values}"
    ratio = (
        f"TR@1 is {row.mean['TR1'] / best.mean['TR1']:.2f} times that of {best.pairs} pairs of {best.name}, "
        f"the best coreset on test ({interval})"
    )
    return replace(row, note="; ".join(filter(None, [row.note, ratio])))


def ratio_interval(
    a: Sequence[float], b: Sequence[float], generator: torch.Generator, *, draws: int = 100_000
) -> tuple[float, float]:
    """Return the ends of a 95 % t interval of mean(a) / mean(b) for few, independent values on each side.

    The logarithm of each mean is t distributed with n - 1 degrees of freedom about its estimate (delta method). Their
    difference is simulated, since variances and degrees of freedom differ. The test split is taken as given.

    Raises:
        ValueError: A side has fewer than two values, or a mean that is not positive.

    References:
        Weerahandi, Generalized Confidence Intervals, Journal of the American Statistical Association 88 (1993).
    """
    if min(len(a), len(b)) < 2 or min(sum(a), sum(b)) <= 0:
        raise ValueError(
            f"ratio: got {list(a)} over {list(b)}, expected two values or more on each side, with positive means."
        )
    random = np.random.default_rng(draw_seed(generator))
    error = np.zeros(draws)
    for values in (a, b):
        relative = statistics.stdev(values) / statistics.fmean(values) / math.sqrt(len(values))
        error += relative * random.standard_t(len(values) - 1, draws)
    half = math.exp(np.percentile(np.abs(error), 95))
    ratio = statistics.fmean(a) / statistics.fmean(b)
    return ratio / half, ratio * half
