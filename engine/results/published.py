"""Rows of published tables, printed below ours under a title of their own and never among them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.results.render import RECALLS, by_value, escaped, markdown_table, row_cells, text_table, wrapped
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
    plain = _plain(rows)
    return "\n".join([f"{TITLE}:", text_table(plain, RECALLS), *wrapped(_sources(plain))]) + "\n"


def render_markdown(rows: Sequence[PublishedRow]) -> str:
    """Return the published rows as a Markdown table, with the source and the protocol of each below."""
    plain = _plain(rows)
    table = markdown_table(RECALLS, [row_cells(row) for row in plain], corner=TITLE)
    return "\n\n".join([table, *map(escaped, _sources(plain))]) + "\n"


def _plain(rows: Sequence[PublishedRow]) -> list[Row]:
    plain = []
    for row in rows:
        protocol = f"{row.source}; {row.protocol}."
        plain.append(Row(name=row.name, pairs=row.pairs, mean=row.mean, std=row.std, seeds=0, protocol=protocol))
    return plain


def _sources(rows: Sequence[Row]) -> list[str]:
    return by_value("Published", rows, lambda row: row.protocol)
