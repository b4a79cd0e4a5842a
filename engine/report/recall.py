"""Figures of mean recall on test: against pairs, bytes and seconds, and of each set under each student."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engine.report.figures import COLOURS, INK, MARKERS, counted, log_ticks, new_axes, put_legend_above, set_log_axis
from engine.results.render import duration, size_text
from engine.results.row import OWN, Row

KEY, LABEL = "mean_recall", "mean recall on test (%)"


class Measure(NamedTuple):
    """What recall is drawn against: its name, its label at the axis, its words in a caption, and ticks as text."""

    name: str
    label: str
    caption: str
    value: Callable[[Row], float | None]
    spell: Callable[[float], str]


PAIRS = Measure("pairs", "pairs", "the number of pairs", lambda row: row.pairs, lambda value: f"{value:,.0f}")
BYTES = Measure(
    "bytes",
    "size of the stored set",
    "the bytes of the stored set, images and texts",
    lambda row: row.size or None,
    size_text,
)
SECONDS = Measure(
    "seconds",
    "time to learn or choose the set",
    "the time to learn or choose the set (at least 0.1 s)",
    lambda row: row.seconds,
    lambda value: duration(value) if value >= 2 else f"{value:.2g} s",
)


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
        axes.annotate(mean_text(row), (1.01, place), xycoords=("axes fraction", "data"), va="center", size=9)
    axes.set_yticks(range(len(sets)), [row.name for row in sets])
    axes.set_ylim(len(sets) - 0.4, -0.6)
    axes.set_xlabel(LABEL)
    _draw_all_pairs(axes, rows, axes.axvline, axes.axvspan)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def draw_against(rows: Sequence[Row], measure: Measure) -> Figure:
    """Return mean recall against a measure: by name, points with ± bars, and a line through the means at each place.

    A logarithmic axis needs places above 0, so less than 0.1 counts as that. Series are drawn 2 % of the axis apart, so
    that points at one place can be told from each other.
    """
    figure, axes = new_axes(height=3.6)
    axes.set_xscale("log")
    series: dict[str, list[tuple[float, float, float]]] = {}
    for row in scored(rows):
        if (place := measure.value(row)) is not None:
            series.setdefault(row.name, []).append((max(place, 0.1), row.mean[KEY], row.std.get(KEY, 0.0)))
    everywhere = [place for points in series.values() for place, _, _ in points]
    if len(set(everywhere)) == 1:  # matplotlib finds no limits around some numbers, 0.1 for one
        axes.set_xlim(everywhere[0] / 2, everywhere[0] * 2)
    for number, (name, points) in enumerate(series.items()):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        apart = (max(everywhere) / min(everywhere)) ** (0.02 * (number - (len(series) - 1) / 2))
        xs, ys, spreads = zip(*sorted(points), strict=True)
        axes.errorbar([x * apart for x in xs], ys, spreads, fmt=marker, color=colour, capsize=3, label=name)
        places = sorted(set(xs))
        means = [statistics.fmean(y for x, y in zip(xs, ys, strict=True) if x == one) for one in places]
        axes.plot([x * apart for x in places], means, color=colour, alpha=0.8)
    axes.set_xmargin(0.08)
    axes.set_xlabel(measure.label)
    axes.set_ylabel(LABEL)
    _draw_all_pairs(axes, rows, axes.axhline, axes.axhspan)
    put_legend_above(axes)
    budgets = sorted({row.pairs for row in scored(rows)})
    low, high = (budgets[0], budgets[-1]) if measure is PAIRS else axes.get_xlim()
    few = measure is PAIRS and len(budgets) <= 6
    set_log_axis(axes.xaxis, budgets if few else log_ticks(low, high), measure.spell)
    return figure


def _draw_all_pairs(axes: Axes, rows: Sequence[Row], line: Callable[..., object], span: Callable[..., object]) -> None:
    """Draw the mean of students of all pairs as a dashed line, with a band of ± where there are several."""
    full = next((row for row in rows if row.full and KEY in row.mean), None)
    if full is None:
        return
    mean, spread = full.mean[KEY], full.std.get(KEY)
    line(mean, color=INK, linestyle="--", linewidth=1.2, label=f"all {full.pairs:,} pairs: {mean_text(full)}")
    if spread:
        span(mean - spread, mean + spread, color=INK, alpha=0.1, linewidth=0)


def mean_text(row: Row) -> str:
    """Return the mean recall of a row with its ±."""
    spread = row.std.get(KEY)
    return f"{row.mean[KEY]:.1f}" + (f" ± {spread:.1f}" if spread is not None else "")


def students_of(rows: Sequence[Row]) -> str:
    """Return how many students each set and all pairs have, for a caption."""
    counts = sorted({row.seeds for row in scored(rows) if row.seeds})
    full = sorted({row.seeds for row in rows if row.full})
    of_all = f", {' or '.join(map(str, full))} of all pairs" if full else ""
    each = " or ".join(map(str, counts)) or "?"
    return f"mean ± one standard deviation over student seeds (n = {each} of each set{of_all})"


def transfers(rows: Sequence[Row]) -> dict[tuple[str, str], Row]:
    """Return by set and student the rows of sets that several students scored; empty where no set was transferred."""
    found: dict[tuple[str, str], Row] = {}
    for row in (row for row in rows if KEY in row.mean):
        name, student = set_and_student(row, rows)
        label = name if row.full else f"{name}, {row.pairs:,} pairs"
        if name:
            found.setdefault((label, student), row)
    moved = {label for label, student in found if student != OWN}
    return {place: row for place, row in found.items() if place[0] in moved}


def set_and_student(row: Row, rows: Sequence[Row]) -> tuple[str, str]:
    """Return the name of a row's set, and of its student: ``OWN``, or what stands behind a comma in another protocol.

    Another student may have the protocol of the own one; its name then begins with that of another row. Older rows do
    not name their students.
    """
    if row.student:
        return row.name.removesuffix(f", {row.student}"), row.student
    name, _, student = row.name.rpartition(", ")
    other = row.protocol != rows[0].protocol or any((name, row.pairs) == (one.name, one.pairs) for one in rows)
    return (name, student) if other else (row.name, OWN)


def draw_transfer(cells: Mapping[tuple[str, str], Row]) -> tuple[str, Figure]:
    """Return caption and figure: mean recall in a cell for each set (row) and student (column), coloured by recovery.

    Where no recovery is known, the colour is the share of the largest recall; where some are known, cells without have
    none.
    """
    sets = list(dict.fromkeys(label for label, _ in cells))
    students = list(dict.fromkeys(student for _, student in cells))
    shares = np.full((len(sets), len(students)), np.nan)
    unknown = all(row.recovery is None for row in cells.values())
    largest = max(row.mean[KEY] for row in cells.values())
    meaning = "that of all pairs under the same student" if not unknown else "the largest one"
    figure, axes = new_axes(height=1.2 + 0.5 * len(sets))
    for (label, student), row in cells.items():
        place, column = sets.index(label), students.index(student)
        share = 100 * row.mean[KEY] / max(largest, 1e-9) if unknown else row.recovery
        shares[place, column] = math.nan if share is None else share
        colour = INK if share is None else "white" if share > 60 else "black"
        axes.text(column, place, mean_text(row), ha="center", va="center", size=9, color=colour)
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    axes.grid(visible=False)
    axes.set_xticks(range(len(students)), students)
    axes.set_yticks(range(len(sets)), sets)
    figure.colorbar(drawn, ax=axes, label="share of the largest (%)" if unknown else "recovery (%)")
    caption = (
        f"Transfer: mean recall on test (%) of {counted(len(sets), 'set')} (rows) under "
        f"{counted(len(students), 'student')} (columns), {students_of([*cells.values()])}. The colour is the recall "
        f"over {meaning}."
    )
    return caption, figure
