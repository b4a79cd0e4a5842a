"""Figures of a search over outer steps: the metric on val, the losses and the learned rates."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from engine.report.figures import COLOURS, INK, MARKERS, new_axes, set_log_axis
from engine.report.study import Trial

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
