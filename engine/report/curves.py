"""Figures of a search over outer steps (the metric on val, losses, learned rates), and of its experts over epochs."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from engine.report.figures import COLOURS, INK, MARKERS, WIDTH, new_axes, set_log_axis
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
    axes.set_xlabel("outer step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(f"{label} on val (%)")
    _legend(axes)
    return figure


def draw_losses(trial: Trial) -> Figure:
    """Return each loss of a trial against outer steps, the mean over the steps since the last validation."""
    figure = _drawn(trial, [name for name in trial.history.validations[0] if name.startswith(LOSS)])
    figure.axes[0].set_ylabel("loss")
    return figure


def draw_rates(trial: Trial) -> Figure:
    """Return the learned rates of a trial's students against outer steps, logarithmic where they differ fourfold."""
    names = [name for name in trial.history.validations[0] if name.startswith(RATE)]
    figure = _drawn(trial, names)
    axes, values = figure.axes[0], [value for name in names for value in _series(trial, name)[1]]
    axes.set_ylabel("learned learning rate")
    if 0 < 4 * min(values) < max(values):
        set_log_axis(axes.yaxis, values, lambda value: f"{value:g}")
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


def _drawn(trial: Trial, names: Sequence[str]) -> Figure:
    figure, axes = new_axes()
    for number, name in enumerate(names):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        label = name.removeprefix(RATE).replace("/", " of ")
        axes.plot(*_series(trial, name), "-", label=label, markersize=4, color=colour, marker=marker)
    axes.set_xlabel("outer step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes)
    return figure


def _series(trial: Trial, key: str) -> tuple[list[float], list[float]]:
    """Return the outer steps at which a number was recorded, and the number."""
    there = [one for one in trial.history.validations if key in one]
    return [one["outer_step"] for one in there], [one[key] for one in there]


def _legend(axes: Axes) -> None:
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), columnspacing=1.2, handletextpad=0.4)
