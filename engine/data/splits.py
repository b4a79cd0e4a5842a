"""Splits of data that have none, or not all of them: photos are dealt by a hash of seed and name."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from annotated_types import Gt, Lt

from engine.data.records import SPLITS, Record

Part = Annotated[float, Gt(0), Lt(1)]
"""The fraction of the photos that a split gets."""


def divided(
    records: Sequence[Record], path: Path, fractions: Mapping[str, float], *, seed: int
) -> tuple[list[Record], str]:
    """Return records that all have a split, and how those that had none were dealt, in words; all of a photo's go
    into one.

    ``fractions`` holds those of val and test. Where train alone or no split is given, all three are dealt; where val is
    lacking, it is taken from train, and where test is lacking, it is half of val.

    Raises:
        ValueError: a split would be empty.
    """
    given = {record.split for record in records}
    if given <= {None, "train"}:
        shares = {"test": fractions["test"], "val": fractions["val"]}
        source, rest, words = given, "train", f"dealt by photo with seed {seed}, as the data have no splits"
    elif given == {"train", "test"}:
        shares, source, rest = {"val": fractions["val"]}, {"train"}, "train"
        words = f"val is taken from train by photo with seed {seed}, as the data have none"
    elif given == {"train", "val"}:
        shares, source, rest = {"test": 0.5}, {"val"}, "val"
        words = f"test is half of val by photo with seed {seed}, as the data have none"
    else:
        return list(records), ""
    images = {record.image for record in records if record.split in source}
    splits = hashed_splits(images, path, shares, rest=rest, seed=seed)
    return [r._replace(split=splits[r.image]) if r.split in source else r for r in records], words


def hashed_splits(
    images: Iterable[str], path: Path, fractions: Mapping[str, float], *, rest: str, seed: int
) -> dict[str, str]:
    """Return the split of each image: in the order of a hash of seed and name, those of ``fractions``, then ``rest``.

    Raises:
        ValueError: a split would be empty.
    """
    order = sorted(images, key=lambda image: hashlib.sha256(f"{seed}/{image}".encode()).digest())
    sizes = {split: round(fraction * len(order)) for split, fraction in fractions.items()}
    sizes[rest] = len(order) - sum(sizes.values())
    for split in SPLITS:
        if sizes.get(split, 1) < 1:
            given = " and ".join(f"{part}_fraction {fractions[part]}" for part in SPLITS if part in fractions)
            raise ValueError(f"{path}: {len(order)} images with {given} leave the split {split!r} empty.")
    return dict(zip(order, [split for split, size in sizes.items() for _ in range(size)], strict=True))
