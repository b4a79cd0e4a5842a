"""Rows of other people's tables: printed below ours, marked as published, and never among them."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.tracking.table import METRICS, MISSING, WIDTH, Row
from engine.tracking.table import render_text as table_text

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

    def remark(self) -> str:
        """Return where the row is from and what it is the score of, as one line."""
        return f"{self.name}, {self.pairs} pairs: published ({self.source}): {self.protocol}."


def render_text(rows: Sequence[PublishedRow]) -> str:
    """Return the published rows as a table of their own, with the source and the protocol of each below."""
    plain = [Row(name=row.name, pairs=row.pairs, mean=row.mean, std=row.std, seeds=0) for row in rows]
    remarks = [line for row in rows for line in textwrap.wrap(row.remark(), WIDTH, subsequent_indent="  ")]
    return "\n".join([f"{TITLE}:", table_text(plain).rstrip("\n"), *remarks]) + "\n"


def render_markdown(rows: Sequence[PublishedRow]) -> str:
    """Return the published rows as a Markdown table of their own, with the source and the protocol of each below."""
    header = [TITLE, "pairs", *METRICS.values()]
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *map(_cells, rows)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return "\n\n".join([table, *(_escaped(row.remark()) for row in rows)]) + "\n"


def _cells(row: PublishedRow) -> list[str]:
    return [_escaped(row.name), str(row.pairs), *(_recall(row, key) for key in METRICS)]


def _recall(row: PublishedRow, key: str) -> str:
    if key not in row.mean:
        return MISSING
    return f"{row.mean[key]:.1f}" + (f" ± {row.std[key]:.1f}" if key in row.std else "")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
