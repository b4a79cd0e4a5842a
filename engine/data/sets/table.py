"""Own photos: a folder of images and a table of ``image, caption[, split]`` rows."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt, Lt

from engine.data.folder import SPLITS, Captions, find_root, read_splits, sizes_of
from engine.data.pairs import PairDataset, Size
from engine.io.paths import Paths
from engine.ranges import Count

if TYPE_CHECKING:
    import polars


Part = Annotated[float, Gt(0), Lt(1)]


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Photos in ``root`` with the captions in ``table``, one a row; photos are resized to squares.

    Args:
        root: folder that image names are relative to, below ``paths.data`` unless absolute.
        table: CSV, JSONL or Parquet file, below ``root`` unless absolute, with the columns ``image`` and ``caption``
            and, optionally, ``split`` (train, val or test).
        image_px: side of the decoded images.
        val_fraction: fraction of the images that become val where there is no column ``split``.
        test_fraction: the same for test.
        seed: selects the random split; all captions of an image are in the same split.
    """

    root: str
    table: str
    image_px: Count = 128
    val_fraction: Part = 0.1
    test_fraction: Part = 0.1
    seed: int = 0

    def load(self, paths: Paths) -> dict[str, PairDataset]:
        """Read train, val and test.

        Raises:
            FileNotFoundError: the folder, the table or images are missing.
            ValueError: the table lacks a column or a value, a split is empty, or an image cannot be decoded.
        """
        root = find_root(paths, self.root)
        splits = self._splits(root)
        annotation = root / self.table
        return read_splits(splits, root, annotation=annotation, image_px=self.image_px, cache=paths.cache)

    def sizes(self, paths: Paths) -> dict[str, Size]:
        """Return the size of each split from the table alone.

        Raises:
            FileNotFoundError: the folder or the table is missing.
            ValueError: the table lacks a column or a value, or a split is empty.
        """
        return sizes_of(self._splits(find_root(paths, self.root)))

    def _splits(self, root: Path) -> dict[str, Captions]:
        """Return captions by the splits of the table; without such a column, by those of a hash."""
        path = root / self.table
        rows = read_rows(path)
        if any(split is not None for _, _, split in rows):
            return given_splits(rows, path)
        fractions = {"val_fraction": self.val_fraction, "test_fraction": self.test_fraction}
        return hashed_splits(rows, path, **fractions, seed=self.seed)


Row = tuple[str, str, str | None]
"""Image name, caption, and split (None without that column)."""


def read_rows(path: Path) -> list[Row]:
    """Read and check the rows of a table.

    Raises:
        FileNotFoundError: the table is missing.
        ValueError: it cannot be parsed, a column is missing, or a value is missing or not a text.
    """
    frame = read_table(path)
    for column in ("image", "caption"):
        if column not in frame.columns:
            there = ", ".join(frame.columns) or "none"
            raise ValueError(f"{path}: the column {column!r} is missing; the columns there are {there}.")
    columns = [name for name in ("image", "caption", "split") if name in frame.columns]
    rows = frame.select(columns).rows()
    for number, row in enumerate(rows, start=1):
        check_row(dict(zip(columns, row, strict=True)), number, path)
    return [(row[0].strip(), row[1].strip(), row[2].strip() if len(row) > 2 else None) for row in rows]


def read_table(path: Path) -> "polars.DataFrame":
    """Read a table in the format of its file name's suffix; every value of a CSV is text.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: its suffix is unknown or it cannot be parsed.
    """
    import polars

    if not path.is_file():
        raise FileNotFoundError(f"data.table: there is no file {path}.")
    try:
        if path.suffix == ".csv":
            return polars.read_csv(path, infer_schema=False)
        if path.suffix == ".jsonl":
            return polars.read_ndjson(path, infer_schema_length=None)
        if path.suffix == ".parquet":
            return polars.read_parquet(path)
    except (polars.exceptions.PolarsError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: expected a {path.suffix} table, but it cannot be parsed ({reason}).") from error
    raise ValueError(f"data.table: {path} ends in {path.suffix!r}, expected .csv, .jsonl or .parquet.")


def check_row(row: dict[str, object], number: int, path: Path) -> None:
    """Check that every value of a row is a text that is not blank.

    Raises:
        ValueError: one is not; rows are numbered from 1, without the header.
    """
    for column, value in row.items():
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{path}: row {number}: {column!r} is {value!r}, expected text.")


def given_splits(rows: list[Row], path: Path) -> dict[str, Captions]:
    """Return captions by the splits of the table.

    Raises:
        ValueError: a split is unknown.
    """
    splits: dict[str, Captions] = {split: {} for split in SPLITS}
    for number, (image, caption, split) in enumerate(rows, start=1):
        if split not in splits:
            raise ValueError(f"{path}: row {number}: 'split' is {split!r}, expected train, val or test.")
        splits[split].setdefault(image, []).append(caption)
    return splits


def hashed_splits(
    rows: list[Row], path: Path, *, val_fraction: float, test_fraction: float, seed: int
) -> dict[str, Captions]:
    """Return captions by split: images in the order of a hash of seed and name, first test, then val, then train.

    Raises:
        ValueError: a split would be empty.
    """
    captions: Captions = {}
    for image, caption, _ in rows:
        captions.setdefault(image, []).append(caption)
    order = sorted(captions, key=lambda image: hashlib.sha256(f"{seed}/{image}".encode()).digest())
    num_test, num_val = round(test_fraction * len(order)), round(val_fraction * len(order))
    chosen = {"test": set(order[:num_test]), "val": set(order[num_test : num_test + num_val])}
    chosen["train"] = set(order[num_test + num_val :])
    for split in SPLITS:
        if not chosen[split]:
            fractions = f"val_fraction {val_fraction} and test_fraction {test_fraction}"
            raise ValueError(f"{path}: {len(order)} images with {fractions} leave the split {split!r} empty.")
    return {split: {name: texts for name, texts in captions.items() if name in chosen[split]} for split in SPLITS}
