"""Report of finished studies: their tables, read from a storage folder."""

from collections.abc import Callable, Sequence

from engine.io.storage import Location, matching
from engine.results import published
from engine.results.files import read_table
from engine.results.published import PublishedRow
from engine.results.render import render_markdown, render_text

CONFIGURATION = "configuration.yaml"


def render(
    storage: Location,
    *,
    name: str | None = None,
    published_rows: Callable[[Location], Sequence[PublishedRow]] = lambda configuration: (),
    markdown: bool = False,
) -> str:
    """Return the tables of the finished studies of space ``name`` (None: all) under their folders, the newest last.

    ``published_rows`` returns the published rows of a study's configuration file; they follow its table as their own.

    Raises:
        FileNotFoundError: No study is finished.
    """
    files = matching(storage / "studies", f"{name or '*'}-*/table.json")
    if not files:
        raise FileNotFoundError(f"{storage / 'studies'}: no finished study of {name or 'any space'} is here.")
    render_table, gap = (render_markdown, "\n\n") if markdown else (render_text, "\n")
    parts = []
    for file in sorted(files, key=lambda file: file.stat().st_mtime):
        parts.append(f"{file.parent}{gap}{render_table(read_table(file))}")
        if rows := published_rows(file.parent / CONFIGURATION):
            parts.append(render_published(rows, markdown=markdown))
    return "\n".join(parts)


def render_published(rows: Sequence[PublishedRow], *, markdown: bool = False) -> str:
    """Return published rows alone."""
    return published.render_markdown(rows) if markdown else published.render_text(rows)
