"""Rendering of result rows as terminal text and as Markdown."""

import io
import math
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence

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
RULE = box.Box("    \n    \n ── \n    \n    \n    \n    \n    \n")  # a line below the header and no other


def render_text(rows: Sequence[Row]) -> str:
    """Return an aligned table of at most 120 columns, with protocols, notes and provenance below."""
    classified = [title for key, title in CLASS_METRICS.items() if any(key in row.mean for row in rows)]
    return "\n".join([text_table(rows, [*SHORT, *classified]), *wrapped(remarks(rows))]) + "\n"


def render_markdown(rows: Sequence[Row]) -> str:
    """Return a Markdown table; the largest mean of a column is bold among small sets of equal pairs and protocol."""
    lines, largest = cells_below(LONG, rows), largest_cells(rows)
    for index, title in largest:
        lines[index][LONG.index(title)] = f"**{lines[index][LONG.index(title)]}**"
    below = [*remarks(rows), *([BOLD] if largest else [])]
    return "\n\n".join([markdown_table(LONG, lines), *map(escaped, below)]) + "\n"


def largest_cells(rows: Sequence[Row]) -> set[tuple[int, str]]:
    """Return row and column of the largest mean, as printed, among small sets of equal pairs and protocol."""
    rivals: dict[tuple[int, str], list[int]] = {}
    for index, row in enumerate(rows):
        if not row.full:
            rivals.setdefault((row.pairs, row.protocol), []).append(index)
    found = set()
    for group in (group for group in rivals.values() if len(group) > 1):
        for key, title in METRICS.items():
            recalls = {index: rows[index].mean.get(key, math.nan) for index in group}
            means = {index: f"{recall:.1f}" for index, recall in recalls.items() if math.isfinite(recall)}
            largest = max(means.values(), key=float, default="")
            found |= {(index, title) for index, mean in means.items() if mean == largest}
    return found


def text_table(rows: Sequence[Row], titles: Sequence[str]) -> str:
    """Return the columns ``titles`` of a table as lines of at most 120 columns; long names wrap."""
    names, *numbers = zip(titles, *cells_below(titles, rows), strict=True)
    header, *lines = zip(names, *map(_aligned, numbers), strict=True)
    table = Table(box=RULE, show_edge=False, pad_edge=False, collapse_padding=True)
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


def markdown_table(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells below ``titles`` as a Markdown table."""
    body = [[escaped(cells[0]), *(cell.replace("±", " ± ") for cell in cells[1:])] for cells in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in [titles, ["---", *["---:"] * (len(titles) - 1)], *body])


def escaped(text: str) -> str:
    """Return a text as it is written in one cell or line of Markdown."""
    return text.replace("|", "\\|").replace("\n", " ")


def wrapped(sentences: Sequence[str]) -> list[str]:
    """Break sentences into lines of at most 120 columns, indented after the first."""
    return [line for sentence in sentences for line in textwrap.wrap(sentence, WIDTH, subsequent_indent="  ")]


def cells_below(titles: Sequence[str], rows: Sequence[Row]) -> list[list[str]]:
    """Return the text of the columns ``titles`` of every row."""
    return [[cells[title] for title in titles] for cells in map(row_cells, rows)]


def row_cells(row: Row) -> dict[str, str]:
    """Return the text of every column of a row by its title."""
    cells = {"set": row.name, "pairs": str(row.pairs), "seeds": str(row.seeds)}
    for key, title in (METRICS | CLASS_METRICS).items():
        mean, spread = row.mean.get(key, math.nan), row.std.get(key, math.nan)
        said = f"{mean:.1f}±{spread:.1f}" if math.isfinite(spread) else f"{mean:.1f}"
        cells[title] = said if math.isfinite(mean) else MISSING
    known = {
        "rec. %": (row.recovery, "{:.1f}".format),
        "recovery %": (row.recovery, "{:.1f}".format),
        "robustness": (row.robustness, "{:.1f}".format),
        "student lr": (row.learning_rate, "{:g}".format),
        "time": (row.seconds, duration),
        "memory": (row.memory, size_text),
        "size": (row.size, size_text),
    }
    return cells | {title: MISSING if value is None else spell(value) for title, (value, spell) in known.items()}


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
    """Return one sentence for each value of the rows, with the names of its rows where there are several values.

    A name is given with its pairs where a row of another value has the same name.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(value(row), []).append(row)
    if len(groups) == 1:
        return [f"{title}: {found}" for found in groups if found]
    sentences = []
    for found, group in groups.items():
        outside = {row.name for row in rows if row not in group}
        names = [f"{row.name}, {row.pairs} pairs" if row.name in outside else row.name for row in group]
        sentences += [f"{title} ({'; '.join(dict.fromkeys(names))}): {found}"] if found else []
    return sentences
