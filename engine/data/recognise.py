"""What a folder of photos and captions is: the name and the options of the data set that reads it."""

import os.path
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from engine.data import sets
from engine.data.folder import sizes_of
from engine.data.locate import locate_images
from engine.data.peek import PHOTO, files_below, first_line, named, text_files
from engine.io.sentences import counted, listed, shown


@dataclass(frozen=True)
class Recognised:
    """A data set found in a folder: ``data.name`` and further options, and its size by split.

    ``left_out`` says what of the folder is not in the data set, or was mended, and why. ``not_latin`` are captions most
    letters of which are of another script.
    """

    root: Path
    name: str
    settings: Mapping[str, Any]
    photos: Mapping[str, int]
    captions: Mapping[str, int]
    left_out: tuple[str, ...]
    divided: str
    not_latin: int = 0

    def line(self) -> str:
        """Return all of it in one line."""
        splits = ", ".join(f"{split} {number:,}" for split, number in self.photos.items())
        how = f"; {self.divided}" if self.divided else ""
        photos, captions = sum(self.photos.values()), sum(self.captions.values())
        what = "left out or mended" if any("mended" in one for one in self.left_out) else "left out"
        return (
            f"{self.root} is {words(self.name, self.settings)}: {photos:,} photos, {captions:,} captions "
            f"({splits}{how}); {what}: {'; '.join(self.left_out) or 'nothing'}"
        )


LATIN_ENDS = "\u0250"
"""The letter after those of European languages in Latin script."""

TABLES = (".csv", ".jsonl", ".parquet")
"""Suffixes of tables of images and captions."""


def data_set(name: str) -> Any:
    """Return the class of the data set ``name``."""
    return import_module(f"{sets.__name__}.{name}").DataSet


def words(name: str, settings: Mapping[str, Any]) -> str:
    """Return a data set with its options as they are typed."""
    return " ".join([f"data.name={name}", *(f"data.{key}={value}" for key, value in settings.items())])


def recognise(root: Path, captions: Path | None = None, **options: Any) -> Recognised:
    """Look at the folder ``root`` and return what reads it; ``captions`` is the file of captions, None: one in it.

    ``options`` are those that all data sets of photos share. Names are read, photos are not. Photos that are listed
    but absent are left out unless ``missing`` says otherwise.

    Raises:
        FileNotFoundError: the folder or the file is missing, or photos are.
        ValueError: the folder is no known layout, or several, or its captions cannot be read.
    """
    name, settings = _only_way(root, captions)
    photos = data_set(name)(**{"root": str(root), "missing": "leave_out", **options, **settings})
    annotation = photos.annotation(root)
    names = list(annotation.places)
    locate_images(annotation, names, annotation.images, named=[root, *annotation.named], links=photos.links)
    sizes = sizes_of(annotation, photos.same_photo)
    known = {os.path.normpath(name) for name in (*annotation.places, *annotation.unlisted)}
    others = {
        "photo that is listed but not there": annotation.absent,
        "photo with captions but in no split": annotation.unlisted,
        "photo without captions": sorted(set(files_below(annotation.images, PHOTO)) - known),
    }
    return Recognised(
        root=root,
        name=name,
        settings={**settings, **({"missing": photos.missing} if annotation.absent else {})},
        photos={split: size.images for split, size in sizes.items()},
        captions={split: size.pairs for split, size in sizes.items()},
        left_out=(*annotation.left_out, *(counted(names, what) for what, names in others.items() if names)),
        divided=annotation.divided,
        not_latin=sum(is_not_latin(one) for split in annotation.splits.values() for of in split.values() for one in of),
    )


def is_not_latin(caption: str) -> bool:
    """Return whether most letters of a caption are of another script than Latin."""
    if caption.isascii():
        return False
    letters = [letter for letter in caption if letter.isalpha()]
    return sum(letter >= LATIN_ENDS for letter in letters) > len(letters) / 2


def _only_way(root: Path, captions: Path | None) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of the only data set that can read a folder by the content of its files."""
    if not os.path.isdir(root):
        raise FileNotFoundError(f"data.root: {root} is not a folder.")
    if captions is not None and not os.path.isfile(captions):
        raise FileNotFoundError(f"data.captions: there is no file {captions}.")
    files = [captions] if captions else list(text_files(root))
    modules = {name: import_module(f"{sets.__name__}.{name}") for _, name, _ in iter_modules(sets.__path__)}
    layouts = {name: modules[name] for name in sorted(modules) if hasattr(modules[name], "claims")}
    found = [(name, settings) for name, module in layouts.items() for settings in module.claims(root, files)]
    found = [way for way in found if way[1] or captions is None]
    if len(found) > 1:
        ways = listed([words(*way) for way in found])
        raise ValueError(
            f"data.root: {root} can be read in {len(found)} ways, expected one; name one of them: {ways} (for new, the "
            "file as --captions)."
        )
    if found:
        return found[0]
    seen = [f"{named(file, root)} ({shown(first_line(file).strip())})" for file in files[:5]]
    more = f" and {len(files) - 5:,} more" if len(files) > 5 else ""
    there = f"the files {', '.join(seen)}{more}" if files else "no file of captions"
    raise ValueError(
        f"data.root: {root} is none of the known layouts ({', '.join(layouts)}); in it are "
        f"{sum(1 for _ in files_below(root, PHOTO)):,} photos and {there}; docs/data.md shows each layout, and "
        f"{_as_a_table(root, files) or 'data.name=table data.table=FILE reads a table of image, caption.'}"
    )


def _as_a_table(root: Path, files: Sequence[Path]) -> str:
    """Return what is wrong with the only file of captions as a table; empty if it is none, or nothing is."""
    if len(files) != 1 or files[0].suffix not in TABLES:
        return ""
    try:
        data_set("table")(root=str(root), table=str(files[0])).annotation(root)
    except (ValueError, OSError) as error:
        return f"as a table {error}"
    return ""
