"""Records of annotations: a photo's name, its captions and its split, with the checks that all formats share.

The functions that read what a file holds under a key raise a ValueError where it is missing or of another kind; the
sentence begins with ``where``.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from engine.io.sentences import meant, shown

SPLITS = ("train", "val", "test")

Captions = dict[str, list[str]]
"""Captions of each image, by image name, in the order of their file."""

_LIST = re.compile(r"""[\[{(]\s*(['"].*['"]\s*,?\s*)?[\]})]""", re.DOTALL)
"""A list or a mapping of texts that was written as one text."""

_HALF = re.compile("[\ud800-\udfff]")


class Record(NamedTuple):
    """Captions of one image; ``where`` names the record in sentences, and ``split`` is None where none is given."""

    where: str
    image: str
    captions: list[str]
    split: str | None


@dataclass(frozen=True)
class Annotation:
    """The captions of every split, with their file and the place in it where each image comes first.

    Image names are relative to the folder ``images``; it is in ``named`` where the user named it. ``absent`` are
    images that are listed but not there, ``unlisted`` those with captions but without a split; ``left_out`` says what
    else is in no split, or was mended, and ``divided`` how the splits were made where the data lack some.
    """

    path: Path
    splits: Mapping[str, Captions]
    places: Mapping[str, str]
    images: Path = Path()
    named: tuple[Path, ...] = ()
    absent: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    divided: str = ""

    def place(self, image: str) -> str:
        """Return where an image stands, for the beginning of a sentence."""
        return f"{self.path}: {self.places[image]}: image {shown(image)}"


def annotated(path: Path, records: Iterable[Record], *, known: str = "train, val or test") -> Annotation:
    """Join the captions of each image of a split.

    Raises:
        ValueError: a split is unknown or empty, or an image has no caption.
    """
    splits: dict[str, Captions] = {split: {} for split in SPLITS}
    places: dict[str, str] = {}
    for where, image, captions, split in records:
        if split not in splits:
            raise ValueError(f"{path}: {where}: 'split' is {shown(split)}, expected {known}.")
        splits[split].setdefault(image, []).extend(captions)
        places.setdefault(image, where)
    for split, images in splits.items():
        if not images:
            raise ValueError(f"{path}: the split {split!r} has no images.")
        for image, captions in images.items():
            if not captions:
                raise ValueError(f"{path}: {places[image]}: image {shown(image)} has no caption.")
    return Annotation(path, splits, places)


def check_keys(given: Iterable[str], known: Sequence[str], where: object) -> None:
    """Refuse, by a ValueError, a key or column that is a misspelling of a known one, and would not be read."""
    for key, word in _misspelt(tuple(given), tuple(known)):
        raise ValueError(f"{where}: {shown(key)} is not a known name, expected {word!r}.")


@lru_cache
def _misspelt(given: tuple[str, ...], known: tuple[str, ...]) -> list[tuple[str, str]]:
    found = ((key, meant(key, known, given)) for key in given)
    return [(key, word) for key, word in found if word]


def text_of(entry: Any, key: str, where: object) -> str:
    """Return the text under ``key`` without surrounding blanks; it may not be blank, or hold halves of letters."""
    value = _value(entry, key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: {key!r} is {_named(value)}, expected text.")
    if _HALF.search(value):
        raise ValueError(f"{where}: {key!r} is {shown(value)}, expected text without halves of surrogate pairs.")
    return value.strip()


def captions_of(entry: Any, key: str, where: object) -> list[str]:
    """Return the caption under ``key``, or the captions of a list there; none may be a list written as text."""
    value = _value(entry, key)
    given = value if value and isinstance(value, list) else [value]
    captions = [text_of({key: text}, key, where) for text in given]
    for caption in captions:
        if _LIST.fullmatch(caption):
            raise ValueError(f"{where}: {key!r} is {shown(caption)}, a list in one text, expected one caption.")
    return captions


def optional_caption(value: Any, key: str, where: object) -> list[str]:
    """Return the caption ``value``, in a list; an empty list where it is blank."""
    return [] if isinstance(value, str) and not value.strip() else captions_of({key: value}, key, where)


def image_name(entry: Any, key: str, where: object, *, folder: str = "") -> str:
    """Return the file name under ``key``, below ``folder``; ``./a.jpg`` and ``a.jpg`` are one name."""
    value = _value(entry, key)
    if isinstance(value, bytes | dict):
        raise ValueError(
            f"{where}: {key!r} is {shown(value)}, expected the name of a file; photos inside of a table are not read."
        )
    name = PurePosixPath(folder) / text_of(entry, key, where)
    if any(len(part.encode()) > 255 for part in name.parts) or len(str(name)) > 4000 or "\0" in str(name):
        raise ValueError(f"{where}: {key!r} is {shown(value)}, expected the name of a file; are columns mixed up?")
    return str(name)


def list_of(entry: Any, key: str, where: object) -> list[Any]:
    """Return the list under ``key``."""
    value = _value(entry, key)
    if not isinstance(value, list):
        raise ValueError(f"{where}: {key!r} is {_named(value)}, expected a list.")
    return value


def _value(entry: Any, key: str) -> Any:
    """Return what an entry of a file holds under ``key``; None where the entry is no mapping."""
    return entry.get(key) if isinstance(entry, dict) else None


def _named(value: Any) -> str:
    """Return a value that is no text, as sentences of these files show it."""
    return repr(value) if value is None or isinstance(value, bool) else shown(value)
