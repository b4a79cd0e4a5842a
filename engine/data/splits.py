"""Splits of data that have none, or not all of them: photos are dealt by a hash of seed and name."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from annotated_types import Gt, Lt

from engine.data.records import SPLITS, Record
from engine.io.sentences import counted

SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
               "test": "test", "testing": "test"}  # fmt: skip
"""The split that each of the usual words means."""

Part = Annotated[float, Gt(0), Lt(1)]
"""The fraction of the photos that a split gets."""


class EmptySplitError(ValueError):
    """A split gets none of ``photos`` photos."""

    def __init__(self, message: str, photos: int = 0) -> None:  # the default lets it travel by pickle
        super().__init__(message)
        self.photos = photos


def divided(records: Sequence[Record], path: Path, *, val: float, test: float, seed: int) -> tuple[list[Record], str]:
    """Return records that all have a split, and how those that had none were dealt, in words; all of a photo's go
    into one.

    ``val`` and ``test`` are their fractions. Photos are dealt in the order of a hash of seed and name. Where one split
    or none is given, all are dealt anew; where val is lacking, it is taken from train, and where test is lacking, it is
    half of val.

    Raises:
        ValueError: a split would be empty.
    """
    given = {record.split for record in records}
    if len(given) == 1:
        shares, source, rest = {"test": test, "val": val}, given, "train"
        there = next((f"{split} alone" for split in given if split), "no splits")
        words = f"divided by photo with seed {seed}, as the data have {there}"
    elif given == {"train", "test"}:
        shares, source, rest = {"val": val}, {"train"}, "train"
        words = f"val is taken from train by photo with seed {seed}"
    elif given == {"train", "val"}:
        shares, source, rest = {"test": 0.5}, {"val"}, "val"
        words = f"test is half of val by photo with seed {seed}"
    else:
        return list(records), ""
    images = {record.image for record in records if record.split in source}
    order = sorted(images, key=lambda image: hashlib.sha256(f"{seed}/{image}".encode()).digest())
    sizes = {split: round(fraction * len(order)) for split, fraction in shares.items()}
    sizes[rest] = len(order) - sum(sizes.values())
    for split in SPLITS:
        if sizes.get(split, 1) < 1:
            parts = " and ".join(f"{part}_fraction {shares[part]}" for part in SPLITS if part in shares)
            raise EmptySplitError(
                f"{path}: {len(order)} images with {parts} leave the split {split!r} empty.", len(order)
            )
    splits = dict(zip(order, [split for split, size in sizes.items() for _ in range(size)], strict=True))
    return [r._replace(split=splits[r.image]) if r.split in source else r for r in records], words


def split_in(name: str) -> str | None:
    """Return the split that the name of a file holds, as ``Flickr_8k.devImages`` does; None where it holds none."""
    words = re.findall("train|val|dev|test", name.casefold())
    return SPLIT_NAMES[words[0]] if len(set(words)) == 1 else None


def by_folder(records: Sequence[Record], path: Path) -> list[Record]:
    """Return records with the split of the folder that their image is in (train, validation, test); all or none.

    Raises:
        ValueError: some are in no such folder.
    """
    folders = [record.image.casefold().split("/")[:-1] for record in records]
    splits = [next((SPLIT_NAMES[part] for part in parts if part in SPLIT_NAMES), None) for parts in folders]
    if None in splits and set(splits) != {None}:
        outside = [record.image for record, split in zip(records, splits, strict=True) if split is None]
        there = ", ".join(split for split in SPLITS if split in splits)
        raise ValueError(
            f"{path}: {counted(outside, 'photo')} in no folder of a split and others in those of {there}; expected "
            "all photos in folders called train, validation and test, or none."
        )
    return [record._replace(split=split) for record, split in zip(records, splits, strict=True)]
