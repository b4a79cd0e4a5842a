"""Lists of photos and captions: what a process opens prepared data by, in place of annotations and photos."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from engine.data.cache import ShardedArray
from engine.data.images import decoded_images
from engine.data.pairs import PairDataset
from engine.data.records import SPLITS
from engine.io.files import atomic_path, digest, read_json
from engine.io.storage import Location


@dataclass(frozen=True)
class Listed:
    """The photos of a split, files below ``folder``, and the captions of each; ``key`` names the decoded photos."""

    folder: str
    names: list[str]
    captions: list[list[str]]
    image_px: int
    key: str

    def images(self, split: str, cache: Path, shards: Location | None = None) -> ShardedArray:
        """Return the photos, which are decoded when the array is opened, unless they are there."""
        return decoded_images(
            Path(self.folder),
            self.names,
            key=self.key,
            image_px=self.image_px,
            cache=cache,
            label=f"pixels of {split}",
            shards=shards,
        )

    def dataset(self, images: np.ndarray | ShardedArray) -> PairDataset:
        """Return the pairs with these decoded photos."""
        return PairDataset(
            images=images,
            image_names=tuple(self.names),
            captions=tuple(text for texts in self.captions for text in texts),
            caption_image=np.repeat(np.arange(len(self.names)), [len(texts) for texts in self.captions]),
        )


def write_listed(splits: Mapping[str, Listed], folder: Location) -> str:
    """Write the lists of all splits into ``folder``, unless they are there, and return their key."""
    data = json.dumps({split: asdict(one) for split, one in splits.items()}).encode()
    key = digest("listed/1", data)
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
