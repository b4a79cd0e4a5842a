"""Lists of photos and captions: what a process opens prepared data by, in place of annotations and photos."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from engine.data import images
from engine.data.cache import ShardedArray
from engine.data.pairs import PairDataset
from engine.data.records import SPLITS
from engine.io.files import atomic_path, digest, read_json
from engine.io.storage import Location


@dataclass(frozen=True)
class Listed:
    """The photos of a split, files below ``folder``, and the captions of each.

    ``content`` is a digest of the files in their order, and ``key`` names the photos as they are decoded.
    """

    folder: str
    names: list[str]
    captions: list[list[str]]
    image_px: int
    content: str
    key: str

    def images(self, split: str, cache: Path, shards: Location | None = None) -> ShardedArray:
        """Return the photos as RGB squares of ``image_px`` (aspect ratio not kept), decoded when they are first read.

        Opening the array raises an UndecodableError that names all files that are not images.

        Raises:
            ValueError: ``image_px`` is not positive.
        """
        if self.image_px < 1:
            raise ValueError(f"image_px: expected a positive number of pixels, got {self.image_px}.")
        return ShardedArray(
            folder=cache / "images",
            key=self.key,
            shape=(len(self.names), 3, self.image_px, self.image_px),
            dtype=np.uint8,
            label=f"pixels of {split}",
            make=partial(images.decode_rows, Path(self.folder), self.names, self.image_px),
            shards=shards,
            at_once=images.SHARD,
        )

    def dataset(self, pixels: np.ndarray | ShardedArray) -> PairDataset:
        """Return the pairs with these decoded photos."""
        return PairDataset(
            images=pixels,
            image_names=tuple(self.names),
            captions=tuple(text for texts in self.captions for text in texts),
            caption_image=np.repeat(np.arange(len(self.names)), [len(texts) for texts in self.captions]),
        )


def write_listed(splits: Mapping[str, Listed], folder: Location) -> str:
    """Write the lists of all splits into ``folder``, unless they are there, and return their key."""
    data = json.dumps({split: asdict(one) for split, one in splits.items()}).encode()
    key = digest("listed/2", data)
    if not _file(folder, key).exists():
        with atomic_path(_file(folder, key)) as temporary:
            temporary.write_bytes(data)
    return key


def read_listed(folder: Location, key: str) -> dict[str, Listed]:
    """Read the lists of all splits that ``write_listed`` has written.

    Raises:
        FileNotFoundError: they are not there.
    """
    splits = read_json(_file(folder, key))
    return {split: Listed(**splits[split]) for split in SPLITS}


def _file(folder: Location, key: str) -> Location:
    return folder / f"{key}.json"
