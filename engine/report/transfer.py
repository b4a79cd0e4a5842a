"""Figure of transfer: the mean recall of each set under each student, as a heat map."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from engine.report.figures import counted, new_axes
from engine.report.recall import mean_text, students_of
from engine.results.row import Row

OWN = "own student"


def transfers(rows: Sequence[Row]) -> dict[tuple[str, str], Row]:
    """Return by set and student the rows of sets that several students scored; empty where no set was transferred.

    Students of the first row's protocol are the sets' own; another student stands in the name behind a comma.
    """
    found: dict[tuple[str, str], Row] = {}
    for row in (row for row in rows if "mean_recall" in row.mean):
        name, _, student = row.name.rpartition(", ") if row.protocol != rows[0].protocol else (row.name, "", OWN)
        label = name if row.full else f"{name}, {row.pairs:,} pairs"
        if name:
            found.setdefault((label, student), row)
    moved = {label for label, student in found if student != OWN}
    return {place: row for place, row in found.items() if place[0] in moved}


def draw_transfer(cells: Mapping[tuple[str, str], Row]) -> tuple[str, Figure]:
    """Return caption and figure: mean recall in a cell for each set (row) and student (column), coloured by recovery.

    Where recovery is not known, the colour is the share of the largest recall of that student.
    """
    sets = list(dict.fromkeys(label for label, _ in cells))
    students = list(dict.fromkeys(student for _, student in cells))
    shares = np.full((len(sets), len(students)), np.nan)
    figure, axes = new_axes(height=1.2 + 0.5 * len(sets))
    for (label, student), row in cells.items():
        place, column = sets.index(label), students.index(student)
        largest = max(other.mean["mean_recall"] for (_, one), other in cells.items() if one == student)
        shares[place, column] = (
            row.recovery if row.recovery is not None else 100 * row.mean["mean_recall"] / max(largest, 1e-9)
        )
        colour = "white" if shares[place, column] > 60 else "black"
        axes.text(column, place, mean_text(row), ha="center", va="center", size=9, color=colour)
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    axes.grid(visible=False)
    axes.set_xticks(range(len(students)), students)
    axes.set_yticks(range(len(sets)), sets)
    figure.colorbar(drawn, ax=axes, label="recovery (%)")
    caption = (
        f"Transfer: mean recall on test (%) of {counted(len(sets), 'set')} (rows) under "
        f"{counted(len(students), 'student')} (columns), {students_of([*cells.values()])}. The colour is the recall "
        "over that of all pairs under the same student."
    )
    return caption, figure
