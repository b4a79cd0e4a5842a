"""What the pages of the documentation hold: fenced blocks, commands, links and headings."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`((?:python|\.venv/bin/python|vldistill|make)\s[^`]+)`")


class Block(NamedTuple):
    """A fenced block, and its place for messages."""

    place: str
    language: str
    text: str


class Command(NamedTuple):
    """The words of one line for a shell, and its place for messages."""

    place: str
    words: list[str]

    @property
    def line(self) -> str:
        return shlex.join(self.words)


def name(page: Path) -> str:
    """Return the name of a page below the project."""
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """Return the fenced blocks of a page, of one language or of all."""
    text = text_of(page)
    found = [
        Block(f"{name(page)}:{text.count(chr(10), 0, match.start()) + 1}", *match.groups())
        for match in _FENCE.finditer(text)
    ]
    return [block for block in found if language in (None, block.language)]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", text_of(page))


def commands(page: Path) -> list[Command]:
    """Return every line of the blocks of a page that are for a shell, then the commands in its sentences."""
    found = [Command(block.place, words) for block in blocks(page, "sh") for words in _lines(block.text)]
    inline = [" ".join(match[1].split()) for match in _INLINE.finditer(prose(page))]
    return [*found, *(Command(f"{name(page)}: `{line}`", shlex.split(line)) for line in inline)]


def _lines(text: str) -> Iterator[list[str]]:
    """Yield the words of each line; a backslash at its end joins the next one, and an ampersand is not a word."""
    for line in text.replace("\\\n", " ").splitlines():
        if words := [word for word in shlex.split(line, comments=True) if word != "&"]:
            yield words


def links(page: Path) -> list[str]:
    """Return the targets of the links of a page that lead into the project."""
    found: list[str] = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in found if not target.startswith(("http:", "https:", "mailto:"))]


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", head.lower())) for head in heads]
    return {head.strip().replace(" ", "-") for head in plain}
