"""What the splits of a data set share: photos, captions, and photos that look alike."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch.nn.functional import adaptive_avg_pool2d

from engine.data.cache import ShardedArray, array_key, cached_array
from engine.data.pairs import PairDataset
from engine.io.files import digest
from engine.provenance import source_digest

T = TypeVar("T")

SIDE = 16
"""Rows of a perceptual hash, and bits in each."""

ALIKE = SIDE * SIDE // 8
"""Bits in which photos that look alike differ at most. A photo of Flickr8k that was saved anew in half size differs in
10 (median) to 28 (95 %) of the 256; the closest of 13 million pairs of its other photos differ in 41."""

CHUNK = 1024


class Shared(NamedTuple):
    """Numbers of photos (equal pixels) and captions (equal texts) of two splits or more, and of photos that look alike.

    ``alike`` counts the photos of val and test that look like one of another split, but are not the same.
    """

    photos: int
    captions: int
    alike: int

    def sentence(self) -> str:
        """Return the numbers in words."""
        return (
            f"the splits share {self.photos:,} photos and {self.captions:,} captions; {self.alike:,} photos look like "
            f"one of another split (at most {ALIKE} of {SIDE * SIDE} bits of their perceptual hashes differ)"
        )


class Closest(NamedTuple):
    """The closest of other hashes to each of some: bits that differ, and its row."""

    bits: Float32[np.ndarray, " n"]
    row: Int64[np.ndarray, " n"]


def shared(datasets: Mapping[str, PairDataset], cache: Path) -> Shared:
    """Return what the splits share, as they are decoded; perceptual hashes are kept below ``cache``."""
    hashes = {split: perceptual_hashes(data.images, cache) for split, data in datasets.items()}
    equal = _in_several({split: map(bytes, rows) for split, rows in hashes.items()})
    contents = {
        split: {
            row: digest(data.images[row].tobytes()) for row, bits in enumerate(hashes[split]) if bytes(bits) in equal
        }
        for split, data in datasets.items()
    }
    photos = _in_several({split: found.values() for split, found in contents.items()})
    alike: set[tuple[str, int]] = set()
    for later, earlier in combinations(list(datasets)[::-1], 2):
        near = np.flatnonzero(closest(hashes[later], hashes[earlier]).bits <= ALIKE)
        alike |= {(later, row) for row in near.tolist() if contents[later].get(row) not in photos}
    captions = _in_several({split: data.captions for split, data in datasets.items()})
    return Shared(len(photos), len(captions), len(alike))


def _in_several(values: Mapping[str, Iterable[T]]) -> set[T]:
    """Return the values that several splits hold."""
    counts = Counter(value for held in values.values() for value in set(held))
    return {value for value, count in counts.items() if count > 1}


def perceptual_hashes(images: UInt8[np.ndarray, "n 3 h w"] | ShardedArray, cache: Path) -> UInt8[np.ndarray, "n b"]:
    """Return the difference hash of every image: whether green grows to the right, in 16 rows of 17 averages.

    They are made once and kept below ``cache``, as the images are.
    """

    def fill(array: np.ndarray) -> None:
        for start in range(0, len(images), CHUNK):
            green = torch.from_numpy(np.array(images[start : start + CHUNK, 1])).float()
            averages = adaptive_avg_pool2d(green, (SIDE, SIDE + 1)).numpy()
            array[start : start + CHUNK] = np.packbits(np.diff(averages).reshape(len(averages), -1) > 0, axis=1)

    shape = (len(images), SIDE * SIDE // 8)
    key = f"{array_key(images)}-dhash1-{source_digest('data/shared.py')}"
    return cached_array(cache / "hashes", key, shape=shape, dtype=np.uint8, fill=fill)


def closest(hashes: UInt8[np.ndarray, "n b"], others: UInt8[np.ndarray, "m b"]) -> Closest:
    """Return, for each of ``hashes``, the bits in which the closest of ``others`` differs, and its row."""
    signs, there = (torch.from_numpy(np.unpackbits(rows, axis=1)).float() * 2 - 1 for rows in (hashes, others))
    found = [(part @ there.T).max(dim=1) for part in signs.split(CHUNK // 4)]
    agreement, index = torch.cat([one.values for one in found]), torch.cat([one.indices for one in found])
    return Closest(((signs.shape[1] - agreement) / 2).numpy(), index.numpy())
