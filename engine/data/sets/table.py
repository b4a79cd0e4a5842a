"""Own photos: a folder of images and a table of ``image, caption[, split]`` rows."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Gt, Lt

from engine.data.folder import SamePhoto, find_root, read_splits, sizes_of
from engine.data.locate import Links
from engine.data.pairs import PairDataset, Size
from engine.data.records import SPLITS, Annotation, Record, annotated, captions_of, image_name, text_of
from engine.data.tables import read_table
from engine.io.paths import Paths
from engine.ranges import Count

Part = Annotated[float, Gt(0), Lt(1)]


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Photos in ``root`` with the captions in ``table``, one a row; photos are resized to squares.

    Args:
        root: folder that image names are relative to, below ``paths.data`` unless absolute.
        table: CSV, JSONL or Parquet file, below ``root`` unless absolute, with the columns ``image`` and ``caption``
            and, optionally, ``split`` (train, val or test). JSONL and Parquet may hold lists of captions.
        image_px: side of the decoded images.
        val_fraction: fraction of the images that become val where there is no column ``split``.
        test_fraction: the same for test.
        seed: selects the random split; all captions of an image are in the same split.
        same_photo: what happens to photos that several splits share: as in ``engine.data.folder``.
        links: which symbolic links are followed: as in ``engine.data.locate``.
    """

    root: str
    table: str
    image_px: Count = 128
    val_fraction: Part = 0.1
    test_fraction: Part = 0.1
    seed: int = 0
    same_photo: SamePhoto = "refuse"
    links: Links = "inside"

    def load(self, paths: Paths) -> dict[str, PairDataset]:
        """Read train, val and test.

        Raises:
            FileNotFoundError: the folder, the table or images are missing.
            ValueError: the table lacks a column or a value, a split is empty, splits share a photo, or an image cannot
                be decoded.
        """
        root = find_root(paths, self.root)
        return read_splits(self._annotation(root), root, self, cache=paths.cache)

    def sizes(self, paths: Paths) -> dict[str, Size]:
        """Return the size of each split from the table alone.

        Raises:
            FileNotFoundError: the folder or the table is missing.
            ValueError: the table lacks a column or a value, a split is empty, or splits share a photo's name.
        """
        return sizes_of(self._annotation(find_root(paths, self.root)), self.same_photo)

    def _annotation(self, root: Path) -> Annotation:
        """Return captions by the splits of the table; without such a column, by those of a hash."""
        path = root / self.table
        records = read_records(path)
        if all(record.split is None for record in records):
            fractions = {"val": self.val_fraction, "test": self.test_fraction}
            splits = hashed_splits({record.image for record in records}, path, fractions, seed=self.seed)
            records = [record._replace(split=splits[record.image]) for record in records]
        return annotated(path, records)


def read_records(path: Path) -> list[Record]:
    """Read and check the rows of a table.

    Raises:
        FileNotFoundError: the table is missing.
        ValueError: it cannot be parsed, a column is missing, or a value is missing or not a text.
    """
    rows = read_table(path)
    given = any("split" in row for row in rows)
    records = []
    for number, row in enumerate(rows, start=1):
        where = f"{path}: row {number}"
        image, captions = image_name(row, "image", where), captions_of(row, "caption", where)
        records.append(Record(f"row {number}", image, captions, text_of(row, "split", where) if given else None))
    return records


def hashed_splits(images: set[str], path: Path, fractions: Mapping[str, float], *, seed: int) -> dict[str, str]:
    """Return the split of each image: in the order of a hash of seed and name, first test, then val, then train.

    Raises:
        ValueError: a split would be empty.
    """
    order = sorted(images, key=lambda image: hashlib.sha256(f"{seed}/{image}".encode()).digest())
    test, val = (round(fractions[split] * len(order)) for split in ("test", "val"))
    sizes = {"test": test, "val": val, "train": len(order) - test - val}
    for split in SPLITS:
        if sizes[split] < 1:
            given = f"val_fraction {fractions['val']} and test_fraction {fractions['test']}"
            raise ValueError(f"{path}: {len(order)} images with {given} leave the split {split!r} empty.")
    return dict(zip(order, [split for split, size in sizes.items() for _ in range(size)], strict=True))
