"""A person's own photos: a folder and a table of ``image, caption[, split]`` rows."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from engine.data.folder import SPLITS, Captions, read_splits, sizes_of
from engine.data.pairs import PairDataset, Size
from engine.io.paths import Paths

if TYPE_CHECKING:
    import polars


def load(
    paths: Paths,
    *,
    root: str,
    table: str,
    image_px: int = 128,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    seed: int = 0,
) -> dict[str, PairDataset]:
    """Read the photos in ``root`` and the captions in ``table``, a caption a row; photos are squashed to squares.

    Args:
        places: where data and caches lie.
        root: folder that image names are relative to, below ``places.data`` unless absolute.
        table: CSV, JSONL or Parquet file, below ``root`` unless absolute, with the columns ``image`` and ``caption``
            and, if wanted, ``split`` (train, val or test).
        image_px: side of the decoded images.
        val_fraction: share of the images that become val where there is no column ``split``.
        test_fraction: the same for test.
        seed: another seed, another split; captions of one image are never parted.

    Raises:
        FileNotFoundError: the folder, the table or images are absent.
        ValueError: the table lacks a column or a value, a split ends up empty, or an image cannot be decoded.
    """
    path = _path_of(paths, root, table)
    splits = _splits(path, val_fraction=val_fraction, test_fraction=test_fraction, seed=seed)
    return read_splits(splits, paths.data_path(root), annotation=path, image_px=image_px, cache=paths.cache)


def sizes(
    paths: Paths,
    *,
    root: str,
    table: str,
    image_px: int = 128,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    seed: int = 0,
) -> dict[str, Size]:
    """Return the size of each split that ``load`` would return, from the table alone.

    Raises:
        FileNotFoundError: the folder or the table is absent.
        ValueError: the table lacks a column or a value, or a split ends up empty.
    """
    path = _path_of(paths, root, table)
    return sizes_of(_splits(path, val_fraction=val_fraction, test_fraction=test_fraction, seed=seed))


def _path_of(paths: Paths, root: str, table: str) -> Path:
    """Return the file of the table."""
    folder = paths.data_path(root)
    if not folder.is_dir():
        raise FileNotFoundError(f"data.root: {root!r} is not a folder ({folder}); is VLDD_DATA set?")
    return folder / table


def _splits(path: Path, *, val_fraction: float, test_fraction: float, seed: int) -> dict[str, Captions]:
    """Return captions by the splits that the table gives, or else by those of a hash."""
    rows = read_rows(path)
    if any(split is not None for _, _, split in rows):
        return given_splits(rows, path)
    return hashed_splits(rows, path, val_fraction=val_fraction, test_fraction=test_fraction, seed=seed)


Row = tuple[str, str, str | None]
"""Image name, caption and, where the table has that column, split."""


def read_rows(path: Path) -> list[Row]:
    """Read and check the rows of a table.

    Raises:
        FileNotFoundError: the table is absent.
        ValueError: it cannot be parsed, a column is absent, or a value is absent or not text.
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
    """Read a table by the ending of its name; every value of a CSV is text.

    Raises:
        FileNotFoundError: it is absent.
        ValueError: its ending is unknown or it cannot be parsed.
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
    """Check that every value of a row is text that is not blank.

    Raises:
        ValueError: one is not; rows are counted from 1 without the header.
    """
    for column, value in row.items():
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{path}: row {number}: {column!r} is {value!r}, expected text.")


def given_splits(rows: list[Row], path: Path) -> dict[str, Captions]:
    """Return captions by the splits that the table gives.

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
    """Return captions by split: images in the order of a hash of seed and name, the first to test, the next to val.

    Raises:
        ValueError: a fraction is out of range, or so small that a split is empty.
    """
    for key, value in {"val_fraction": val_fraction, "test_fraction": test_fraction}.items():
        if not 0 < value < 1:
            raise ValueError(f"data.{key}: expected a number between 0 and 1, got {value}.")
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
