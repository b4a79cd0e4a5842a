"""A look at the beginning and the end of a file, and at the files of a folder, without reading the photos."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from engine.io.files import MARKS
from engine.io.sentences import listed

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


def first_line(file: Path) -> str:
    """Return the first line of a text file that is not blank, or nothing."""
    return next((line for line in head(file).splitlines() if line.strip()), "")


def hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or one of those that archives of macOS leave."""
    return name.startswith((".", "__MACOSX"))


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in ``folder`` that are not hidden, by name."""
    with os.scandir(folder) as entries:
        return [folder / name for name in sorted(e.name for e in entries if not hidden(e.name) and e.is_dir())]


def text_files(root: Path, *, depth: int = 2) -> Iterator[Path]:
    """Yield the files in ``root`` and in folders ``depth`` levels below that may hold captions, by name.

    Files with the name of a photo beside them, but for the suffix, are left out: each is about one photo.
    """
    with os.scandir(root) as entries:
        names = sorted(entry.name for entry in entries if entry.is_file() and not hidden(entry.name))
    photos = {os.path.splitext(name)[0] for name in names if suffix(name) in PHOTO}
    yield from (root / name for name in names if suffix(name) in TEXT and os.path.splitext(name)[0] not in photos)
    for folder in folders_in(root) if depth else ():
        yield from text_files(folder, depth=depth - 1)


def suffix(name: str) -> str:
    """Return the suffix of a file's name in small letters."""
    return os.path.splitext(name)[1].lower()


def files_below(folder: Path, suffixes: Collection[str]) -> Iterator[str]:
    """Yield the files below ``folder`` with one of the suffixes (in small letters), relative to it; no link to a folder
    is followed."""
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not hidden(name))
        below = os.path.relpath(where, folder)
        for name in sorted(files):
            if suffix(name) in suffixes and not hidden(name):
                yield name if below == "." else os.path.join(below, name)


def only(key: str, given: str | None, found: Sequence[Mapping[str, str]], folder: Path) -> Path:
    """Return the file that the option ``key`` names, ``given``; None: the only one that was found.

    Raises:
        FileNotFoundError: it is not there, or none was found.
        ValueError: several were.
    """
    names = [settings[key] for settings in found] if given is None else [given]
    if not names:
        raise FileNotFoundError(f"{folder}: there is no file in it that this data set reads; data.{key} names one.")
    if len(names) > 1:
        raise ValueError(f"{folder}: several files of captions ({listed(names)}); name one of them as data.{key}.")
    if given is not None and not os.path.isfile(folder / given):
        raise FileNotFoundError(f"data.{key}: there is no file {folder / given}.")
    return folder / names[0]


def named(file: Path, folder: Path) -> str:
    """Return the name of a file as an option: relative to ``folder`` where it is below it."""
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file.absolute())
