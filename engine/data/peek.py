"""A look at the beginning and the end of a file, and at the files of a folder, without reading the photos."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.io.files import MARKS

TEXT = (".json", ".jsonl", ".csv", ".txt", ".token", ".parquet")
"""Suffixes of files that may hold captions."""

PHOTO = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})
"""Suffixes of photos of the formats that are decoded."""

GLANCE = 2**16


def head(file: Path) -> str:
    """Return the first 64 KiB of a text file; bytes that are no text become question marks."""
    with file.open("rb") as opened:
        data = opened.read(GLANCE)
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8-sig")
    return data.decode(encoding, errors="replace")


def tail(file: Path) -> str:
    """Return the last 64 KiB of a text file in UTF-8."""
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - GLANCE))
        return opened.read().decode(errors="replace")


def first_object(file: Path) -> dict[str, object]:
    """Return the object in the first line of a JSONL file; an empty one where there is none."""
    try:
        found = json.loads(head(file).lstrip().split("\n", 1)[0])
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or one of those that archives of macOS leave."""
    return name.startswith((".", "__MACOSX"))


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in ``folder`` that are not hidden, by name."""
    with os.scandir(folder) as entries:
        return [folder / name for name in sorted(e.name for e in entries if not hidden(e.name) and e.is_dir())]


def files_below(folder: Path, suffixes: Sequence[str] | frozenset[str]) -> Iterator[str]:
    """Yield the files below ``folder`` with one of the suffixes (in small letters), relative to it; no link to a folder
    is followed."""
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not hidden(name))
        below = os.path.relpath(where, folder)
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in suffixes and not hidden(name):
                yield name if below == "." else os.path.join(below, name)


def named(file: Path, folder: Path) -> str:
    """Return the name of a file as an option: relative to ``folder`` where it is below it."""
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file.absolute())
