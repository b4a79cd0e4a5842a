"""Rows of published tables, printed below ours under a title of their own and never among them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.results.render import RECALLS, by_value, cells_below, escaped, markdown_table, text_table, wrapped
from engine.results.row import Row

TITLE = "published, not run here"


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One row of a published table: recalls in percent, its source, and what was scored."""

    name: str
    pairs: int
    source: str
    protocol: str
    mean: Mapping[str, float]
    std: Mapping[str, float] = field(default_factory=dict)


def render_text(rows: Sequence[PublishedRow]) -> str:
    """Return the published rows as a text table, with the source and the protocol of each below."""
    return "\n".join([f"{TITLE}:", text_table([*map(as_row, rows)], RECALLS), *wrapped(sources(rows))]) + "\n"


def render_markdown(rows: Sequence[PublishedRow]) -> str:
    """Return the published rows as a Markdown table, with the source and the protocol of each below."""
    table = markdown_table([TITLE, *RECALLS[1:]], cells_below(RECALLS, [*map(as_row, rows)]))
    return "\n\n".join([table, *map(escaped, sources(rows))]) + "\n"


def as_row(row: PublishedRow) -> Row:
    """Return a published row among the columns of ours, with its source in place of the protocol."""
    protocol = f"{row.source}; {row.protocol}"
    return Row(name=row.name, pairs=row.pairs, mean=row.mean, std=row.std, seeds=0, protocol=protocol)


def sources(rows: Sequence[PublishedRow]) -> list[str]:
    """Return sentences on the source and the protocol of published rows."""
    return by_value("Published", [*map(as_row, rows)], lambda row: f"{row.protocol}.")
