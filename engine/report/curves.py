"""Figures of a search over outer steps (the metric on val, losses, learned rates), and of its experts over epochs."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from engine.report.figures import COLOURS, INK, MARKERS, WIDTH, log_ticks, new_axes, put_legend_above, set_log_axis
from engine.report.study import Curve, Trial

LOSS, RATE = "loss", "inner_lr/"


def draw_validations(trials: Sequence[Trial], best: Trial, *, key: str, label: str) -> Figure:
    """Return the metric on val of every trial against outer steps; the best one is thick, its set's step is ringed."""
    figure, axes = new_axes()
    others = [trial for trial in trials if trial is not best]
    for number, trial in enumerate(others):
        first = "other trials" if number == 0 else None
        axes.plot(*_series(trial, key), "-", color=INK, alpha=0.35, linewidth=1, marker=".", label=first)
    steps, values = _series(best, key)
    axes.plot(steps, values, "-o", color=COLOURS[0], linewidth=2.2, label=f"{best.name} (best)")
    chosen = max(range(len(values)), key=lambda index: (values[index] == best.best, -index))
    axes.plot(steps[chosen], values[chosen], "o", markersize=12, fillstyle="none", color=COLOURS[1], label="its set")
    axes.annotate(f"{values[chosen]:.1f}", (steps[chosen], values[chosen]), xytext=(0, 9), textcoords="offset points",
                  ha="center", size=9)  # fmt: skip
    axes.margins(y=0.15)
    _label_steps(axes, f"{label} on val (%)")
    return figure


def draw_numbers(trial: Trial, prefix: str, *, label: str) -> Figure:
    """Return the numbers of a trial whose names begin with ``prefix``, LOSS or RATE, against outer steps.

    Losses are means over the steps since the last validation. Rates are logarithmic where they differ fourfold;
    those of further students have the student's number.
    """
    figure, axes = new_axes()
    known = dict.fromkeys(name for one in trial.history.validations for name in one if name.startswith(prefix))
    names, drawn = sorted(known, key=lambda name: name.count("/")), list[float]()
    for number, name in enumerate(names):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        steps, values = _series(trial, name)
        student, further, tower = name.removeprefix(RATE).partition("/")  # of a rate; a loss may be of a tower
        said = f"{tower}, student {int(student) + 1}" if further and prefix == RATE else name.removeprefix(RATE)
        said = said.replace("/", " of ")
        axes.plot(steps, values, "-", label=said, markersize=4, color=colour, marker=marker)
        drawn += values
    _label_steps(axes, label)
    if prefix == RATE and 0 < 4 * min(drawn) < max(drawn):
        set_log_axis(axes.yaxis, log_ticks(min(drawn), max(drawn)), lambda value: f"{value:g}")
    return figure


def draw_experts(experts: Sequence[Curve], segments: Mapping[str, Sequence[tuple[int, int]]]) -> Figure:
    """Return loss and recall on val of each expert against epochs, above the first and last epochs of ``segments``.

    ``segments`` are those that students may be given, by the side that they are of.
    """
    figure = Figure(figsize=(WIDTH, 4.4))
    loss, recall, below = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": (3, 3, 1)})
    for number, curve in enumerate(experts):
        label = f"{len(experts)} experts" if number == 0 else None
        for axes, key, colour in ((loss, LOSS, COLOURS[1]), (recall, "val/mean_recall", COLOURS[0])):
            axes.plot(list(curve), [one.get(key, math.nan) for one in curve.values()], "-o", color=colour, alpha=0.6,
                      linewidth=1.2, markersize=3, label=label)  # fmt: skip
    loss.set_ylabel("training loss", size=9)
    recall.set_ylabel("mean recall\non val (%)", size=9)
    lines = [(side, line) for side, found in segments.items() for line in found]
    for place, (side, (start, end)) in enumerate(lines):
        below.plot([start, end], [place, place], "-|", color=COLOURS[2 + list(segments).index(side)], linewidth=2)
    below.set_yticks([])
    below.set_ylabel("segments", size=9)
    below.margins(y=0.3)
    below.set_xlabel("epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _series(trial: Trial, key: str) -> tuple[list[float], list[float]]:
    """Return the outer steps at which a number was recorded, and the number."""
    there = [one for one in trial.history.validations if key in one]
    return [one["outer_step"] for one in there], [one[key] for one in there]


def _label_steps(axes: Axes, label: str) -> None:
    """Label a plot against outer steps, and put its legend above it."""
    axes.set_xlabel("outer step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(label)
    put_legend_above(axes)
