"""Figures of mean recall on test against pairs, bytes and seconds, with students of all pairs as a line."""

import statistics
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engine.report.figures import COLOURS, HEIGHT, INK, MARKERS, WIDTH, counted, log_ticks, new_axes, set_log_axis
from engine.results.render import duration, size_text
from engine.results.row import Row

KEY, LABEL = "mean_recall", "mean recall on test (%)"


def scored(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of small sets that have a mean recall."""
    return [row for row in rows if KEY in row.mean and not row.full]


def draw_sets(rows: Sequence[Row]) -> Figure:
    """Return the mean recall of sets with one number of pairs, one below the other; crosses are single students."""
    sets = scored(rows)
    figure, axes = new_axes(height=0.9 + 0.34 * len(sets))
    for place, row in enumerate(sets):
        students = [value for one in row.by_student.get(KEY, ()) for value in one]
        axes.plot(students, [place] * len(students), "x", color=COLOURS[0], alpha=0.6, markersize=5)
        axes.errorbar(row.mean[KEY], place, xerr=row.std.get(KEY), fmt="o", color=COLOURS[0], capsize=3)
        axes.annotate(_mean(row), (1.01, place), xycoords=("axes fraction", "data"), va="center", size=9)
    axes.set_yticks(range(len(sets)), [row.name for row in sets])
    axes.set_ylim(len(sets) - 0.4, -0.6)
    axes.set_xlabel(LABEL)
    _all_pairs(axes, rows, axes.axvline, axes.axvspan)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def draw_against_pairs(rows: Sequence[Row]) -> Figure:
    """Return mean recall against the number of pairs, a line for each method and coreset."""
    figure = _drawn(rows, lambda row: row.pairs)
    budgets = sorted({row.pairs for row in scored(rows)})
    axis = figure.axes[0].xaxis
    axis.set_ticks(
        few := budgets if len(budgets) <= 6 else log_ticks(budgets[0], budgets[-1]), [f"{n:,.0f}" for n in few]
    )
    axis.set_ticks([], minor=True)
    figure.axes[0].set_xlabel("pairs")
    return figure


def draw_against_bytes(rows: Sequence[Row]) -> Figure:
    """Return mean recall against the bytes of each set as it is stored."""
    figure = _drawn(rows, lambda row: row.size)
    figure.axes[0].set_xlabel("size of the stored set")
    set_log_axis(figure.axes[0].xaxis, figure.axes[0].get_xlim(), size_text)
    return figure


def draw_against_seconds(rows: Sequence[Row]) -> Figure:
    """Return mean recall against the time to learn or choose each set; less than 0.1 s counts as that."""
    figure = _drawn(rows, seconds)
    figure.axes[0].set_xlabel("time to learn or choose the set")
    set_log_axis(figure.axes[0].xaxis, figure.axes[0].get_xlim(), _short)
    return figure


def seconds(row: Row) -> float | None:
    """Return the time to learn or choose a set, at least 0.1 s, which a logarithmic axis can show."""
    return None if row.seconds is None else max(row.seconds, 0.1)


def _short(value: float) -> str:
    return duration(value) if value >= 2 else f"{value:g} s"


def _drawn(rows: Sequence[Row], place: Callable[[Row], float | None]) -> Figure:
    """Return the series of rows by their names: points with ± bars, and a line through the means at each place.

    Series are drawn 2 % of the axis apart, so that points at one place can be told from each other.
    """
    figure, axes = new_axes(width=WIDTH, height=HEIGHT + 0.2)
    names = dict.fromkeys(row.name for row in scored(rows) if place(row))
    axes.set_xscale("log")
    everywhere = [place(row) or 1.0 for row in scored(rows) if place(row)]
    spread_of_places = max(everywhere) / min(everywhere)
    for number, name in enumerate(names):
        points = sorted((place(row) or 0.0, row.mean[KEY], row.std.get(KEY, 0.0)) for row in scored(rows)
                        if row.name == name and place(row))  # fmt: skip
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        apart = spread_of_places ** (0.02 * (number - (len(names) - 1) / 2))
        xs, ys, spreads = zip(*points, strict=True)
        axes.errorbar([x * apart for x in xs], ys, spreads, fmt=marker, color=colour, capsize=3, label=name)
        places = sorted(set(xs))
        means = [statistics.fmean(y for x, y in zip(xs, ys, strict=True) if x == one) for one in places]
        axes.plot([x * apart for x in places], means, color=colour, alpha=0.8)
    axes.set_xmargin(0.08)
    axes.set_ylabel(LABEL)
    _all_pairs(axes, rows, axes.axhline, axes.axhspan)
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), columnspacing=1.2, handletextpad=0.4)
    return figure


def _all_pairs(axes: Axes, rows: Sequence[Row], line: Callable[..., object], span: Callable[..., object]) -> None:
    """Draw the mean of students of all pairs as a dashed line, with a band of ± where there are several."""
    full = next((row for row in rows if row.full and KEY in row.mean), None)
    if full is None:
        return
    mean, spread = full.mean[KEY], full.std.get(KEY)
    line(mean, color=INK, linestyle="--", linewidth=1.2, label=f"all {full.pairs:,} pairs: {_mean(full)}")
    if spread:
        span(mean - spread, mean + spread, color=INK, alpha=0.1, linewidth=0)


def _mean(row: Row) -> str:
    spread = row.std.get(KEY)
    return f"{row.mean[KEY]:.1f}" + (f" ± {spread:.1f}" if spread is not None else "")


def students_of(rows: Sequence[Row]) -> str:
    """Return how many students each set and all pairs have, for a caption."""
    counts = sorted({row.seeds for row in scored(rows) if row.seeds})
    full = sorted({row.seeds for row in rows if row.full})
    of_all = f", {' or '.join(map(str, full))} of all pairs" if full else ""
    each = " or ".join(map(str, counts)) or "?"
    return f"mean ± one standard deviation over student seeds (n = {each} of each set{of_all})"


def sets_and_budgets(rows: Sequence[Row]) -> str:
    """Return the number of sets and of budgets, for a caption."""
    return f"{counted(len(scored(rows)), 'set')} at {counted(len({row.pairs for row in scored(rows)}), 'budget')}"
