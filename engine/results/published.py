"""Rows of other people's tables: printed below ours, marked as published, and never among them."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.results.table import METRICS, MISSING, WIDTH, Row
from engine.results.table import render_text as table_text

TITLE = "published, not run here"


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One row of a published table: recalls in percent, where it stands, and what was scored in a few words."""

    name: str
    pairs: int
    source: str
    protocol: str
    mean: Mapping[str, float]
    std: Mapping[str, float] = field(default_factory=dict)


def remarks(rows: Sequence[PublishedRow]) -> list[str]:
    """Return where the rows are from and what they are the scores of, one line for all that share both."""
    groups: dict[tuple[str, str], list[PublishedRow]] = {}
    for row in rows:
        groups.setdefault((row.source, row.protocol), []).append(row)
    return [f"{_named(group, rows)}: published ({source}): {protocol}." for (source, protocol), group in groups.items()]


def _named(group: Sequence[PublishedRow], rows: Sequence[PublishedRow]) -> str:
    if len(group) == 1:
        return f"{group[0].name}, {group[0].pairs} pairs"
    return "all rows" if len(group) == len(rows) else ", ".join(dict.fromkeys(row.name for row in group))


def render_text(rows: Sequence[PublishedRow]) -> str:
    """Return the published rows as a table of their own, with the source and the protocol of each below."""
    plain = [Row(name=row.name, pairs=row.pairs, mean=row.mean, std=row.std, seeds=0) for row in rows]
    below = [line for remark in remarks(rows) for line in textwrap.wrap(remark, WIDTH, subsequent_indent="  ")]
    return "\n".join([f"{TITLE}:", table_text(plain).rstrip("\n"), *below]) + "\n"


def render_markdown(rows: Sequence[PublishedRow]) -> str:
    """Return the published rows as a Markdown table of their own, with the source and the protocol of each below."""
    header = [TITLE, "pairs", *METRICS.values()]
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *map(_cells, rows)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return "\n\n".join([table, *map(_escaped, remarks(rows))]) + "\n"


def _cells(row: PublishedRow) -> list[str]:
    return [_escaped(row.name), str(row.pairs), *(_recall(row, key) for key in METRICS)]


def _recall(row: PublishedRow, key: str) -> str:
    if key not in row.mean:
        return MISSING
    return f"{row.mean[key]:.1f}" + (f" ± {row.std[key]:.1f}" if key in row.std else "")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
