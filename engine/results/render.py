"""Rendering of result rows as terminal text and as Markdown."""

import io
import math
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from engine.results.row import CLASS_METRICS, METRICS, Row

WIDTH = 120
MISSING = "-"
RECALLS = ("set", "pairs", *METRICS.values())
SHORT = (*RECALLS, "rec. %")
LONG = (*RECALLS, "recovery %", "robustness", "seeds", "student lr", "time", "memory", "size")

BOLD = "Bold is the largest mean among sets with as many pairs; differences may be smaller than ±."
_RULE = box.Box("    \n    \n ── \n    \n    \n    \n    \n    \n")  # a line below the header and no other


def render_text(rows: Sequence[Row]) -> str:
    """Return an aligned table of at most 120 columns, with protocols, notes and provenance below."""
    classified = [title for key, title in CLASS_METRICS.items() if any(key in row.mean for row in rows)]
    return "\n".join([text_table(rows, [*SHORT, *classified]), *wrapped(remarks(rows))]) + "\n"


def render_markdown(rows: Sequence[Row]) -> str:
    """Return a Markdown table; the largest mean of a column is bold among small sets of equal pairs and protocol."""
    body, largest = [row_cells(row) for row in rows], largest_cells(rows)
    for index, title in largest:
        body[index][title] = f"**{body[index][title]}**"
    below = [*remarks(rows), *([BOLD] if largest else [])]
    return "\n\n".join([markdown_table(LONG, body), *map(escaped, below)]) + "\n"


def largest_cells(rows: Sequence[Row]) -> set[tuple[int, str]]:
    """Return row and column of the largest mean, as printed, among small sets of equal pairs and protocol."""
    rivals: dict[tuple[int, str], list[int]] = {}
    for index, row in enumerate(rows):
        if not row.full:
            rivals.setdefault((row.pairs, row.protocol), []).append(index)
    found = set()
    for group in (group for group in rivals.values() if len(group) > 1):
        for key, title in METRICS.items():
            means = {
                index: f"{rows[index].mean[key]:.1f}"
                for index in group
                if math.isfinite(rows[index].mean.get(key, math.nan))
            }
            largest = max(means.values(), key=float, default="")
            found |= {(index, title) for index, mean in means.items() if mean == largest}
    return found


def text_table(rows: Sequence[Row], titles: Sequence[str]) -> str:
    """Return the columns ``titles`` of a table as lines of at most 120 columns; long names wrap."""
    body = [row_cells(row) for row in rows]
    names, *numbers = [[title, *(cells[title] for cells in body)] for title in titles]
    header, *lines = zip(names, *map(_aligned, numbers), strict=True)
    table = Table(box=_RULE, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column(header[0], overflow="ellipsis", max_width=26)
    for title in header[1:]:
        table.add_column(title, no_wrap=True)
    for line in lines:
        table.add_row(*line)
    console = Console(width=WIDTH, color_system=None, markup=False, emoji=False, highlight=False, file=io.StringIO())
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _aligned(column: Sequence[str]) -> list[str]:
    """Pad the cells of a column to one width: numbers on the right, their ± below each other, the title first."""
    title, *cells = column
    spreads = [len("".join(cell.partition("±")[1:])) for cell in cells]
    padded = [cell + " " * (max(spreads) - spread) for cell, spread in zip(cells, spreads, strict=True)]
    width = max(map(len, [title, *padded]))
    return [cell.rjust(width) for cell in (title, *padded)]


def markdown_table(titles: Sequence[str], body: Sequence[Mapping[str, str]], *, corner: str = "set") -> str:
    """Return the columns ``titles`` of rows of cells as a Markdown table whose first title is ``corner``."""
    lines = [[corner, *titles[1:]], ["---", *["---:"] * (len(titles) - 1)]]
    for cells in body:
        lines.append([escaped(cells[titles[0]]), *(cells[title].replace("±", " ± ") for title in titles[1:])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escaped(text: str) -> str:
    """Return a text as it is written in one cell or line of Markdown."""
    return text.replace("|", "\\|").replace("\n", " ")


def wrapped(sentences: Sequence[str]) -> list[str]:
    """Break sentences into lines of at most 120 columns, indented after the first."""
    return [line for sentence in sentences for line in textwrap.wrap(sentence, WIDTH, subsequent_indent="  ")]


def row_cells(row: Row) -> dict[str, str]:
    """Return the text of every column of a row by its title."""
    recovery = _number(row.recovery, ".1f")
    return {
        "set": row.name,
        "pairs": str(row.pairs),
        **{title: _recall(row, key) for key, title in (METRICS | CLASS_METRICS).items()},
        "rec. %": recovery,
        "recovery %": recovery,
        "robustness": _number(row.robustness, ".1f"),
        "seeds": str(row.seeds),
        "student lr": _number(row.learning_rate, "g"),
        "time": MISSING if row.seconds is None else duration(row.seconds),
        "memory": MISSING if row.memory is None else size_text(row.memory),
        "size": MISSING if row.size is None else size_text(row.size),
    }


def _recall(row: Row, key: str) -> str:
    mean, spread = row.mean.get(key, math.nan), row.std.get(key, math.nan)
    if not math.isfinite(mean):
        return MISSING
    return f"{mean:.1f}" + (f"±{spread:.1f}" if math.isfinite(spread) else "")


def _number(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)


def duration(seconds: float) -> str:
    """Return a time in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def size_text(size: float) -> str:
    """Return a size in kB or MB."""
    return f"{size / 1e3:.0f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"


def remarks(rows: Sequence[Row]) -> list[str]:
    """Return sentences on protocols, ±, data, notes and provenance, which name rows only where these differ."""
    counts = sorted({row.seeds for row in rows if row.std and row.seeds})
    spread = [f"± is the standard deviation over {' or '.join(map(str, counts))} student seeds."] if counts else []
    names = Counter(row.name for row in rows)
    noted = [(f"{row.name}, {row.pairs} pairs" if names[row.name] > 1 else row.name, row.note) for row in rows]
    return [
        *by_value("Protocol", rows, lambda row: row.protocol),
        *spread,
        *by_value("Data", rows, lambda row: row.data),
        *(f"{title}: {note}" for title, note in noted if note),
        *by_value("Made by", rows, lambda row: " and ".join(dict.fromkeys(one.sentence() for one in row.made_by))),
    ]


def by_value(title: str, rows: Sequence[Row], value: Callable[[Row], str]) -> list[str]:
    """Return one sentence for each value of the rows, with the names of its rows where there are several values."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(value(row), []).append(row)
    if len(groups) == 1:
        return [f"{title}: {found}" for found in groups if found]
    return [f"{title} ({_names(group, rows)}): {found}" for found, group in groups.items() if found]


def _names(group: Sequence[Row], rows: Sequence[Row]) -> str:
    """Return the distinct names of a group, with pairs where rows outside the group have the same name."""
    outside = {row.name for row in rows if row not in group}
    labels = [f"{row.name}, {row.pairs} pairs" if row.name in outside else row.name for row in group]
    return "; ".join(dict.fromkeys(labels))
