"""The tables of finished studies, read from a storage folder."""

from collections.abc import Callable, Sequence

from engine.io.storage import Location, matching
from engine.results import published, table
from engine.results.published import PublishedRow

CONFIGURATION = "configuration.yaml"


def render(
    storage: Location,
    *,
    name: str | None = None,
    published_rows: Callable[[Location], Sequence[PublishedRow]] = lambda configuration: (),
    markdown: bool = False,
) -> str:
    """Return the tables of the finished studies called ``name`` (None: all), the newest last, each under its folder.

    ``published_rows`` gives the published rows of a study's configuration; they follow its table as one of their own.

    Raises:
        FileNotFoundError: there is none.
    """
    pattern = f"{name or '*'}-*/table.json"
    files = sorted(matching(storage / "studies", pattern), key=lambda file: file.stat().st_mtime)
    if not files:
        raise FileNotFoundError(f"{storage / 'studies'}: no finished study of {name or 'any space'} is here.")
    render_table = table.render_markdown if markdown else table.render_text
    gap = "\n\n" if markdown else "\n"
    parts = []
    for file in files:
        parts.append(f"{file.parent}{gap}{render_table(table.read(file))}")
        if theirs := published_rows(file.parent / CONFIGURATION):
            parts.append(render_published(theirs, markdown=markdown))
    return "\n".join(parts)


def render_published(rows: Sequence[PublishedRow], *, markdown: bool = False) -> str:
    """Return published rows alone."""
    return published.render_markdown(rows) if markdown else published.render_text(rows)
