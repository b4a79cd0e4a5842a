"""Own photos: a folder of images and a table of ``image, caption[, split]`` rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.data.folder import Missing, SamePhoto, count_photos, find_images, load_photos, present
from engine.data.locate import Links
from engine.data.pairs import PairDataset, Size
from engine.data.peek import named
from engine.data.records import Annotation, Record, annotated, captions_of, image_name, text_of
from engine.data.splits import Part, divided
from engine.data.tables import COLUMNS, columns, read_table
from engine.io.paths import Paths
from engine.ranges import Count


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Photos in ``root`` with the captions in ``table``, one a row; photos are resized to squares.

    Args:
        root: folder that image names are relative to, or that has a folder they are relative to, below ``paths.data``
            unless absolute.
        table: CSV, JSONL or Parquet file, below ``root`` unless absolute, with the columns ``image`` and ``caption``
            and, optionally, ``split`` (train, val or test). JSONL and Parquet may hold lists of captions.
        image_px: side of the decoded images.
        val_fraction: fraction of the images that become val where there is no column ``split``.
        test_fraction: the same for test.
        seed: selects the random split; all captions of an image are in the same split.
        missing: what happens to photos that are listed but absent: as in ``engine.data.folder``.
        same_photo: what happens to photos that several splits share: as in ``engine.data.folder``.
        links: which symbolic links are followed: as in ``engine.data.locate``.
    """

    root: str
    table: str
    image_px: Count = 128
    val_fraction: Part = 0.1
    test_fraction: Part = 0.1
    seed: int = 0
    missing: Missing = "refuse"
    same_photo: SamePhoto = "refuse"
    links: Links = "inside"

    def load(self, paths: Paths) -> dict[str, PairDataset]:
        """Read train, val and test; raises as ``engine.data.folder.load_photos`` does."""
        return load_photos(self, paths)

    def sizes(self, paths: Paths) -> dict[str, Size]:
        """Return the size of each split from the table alone; raises as ``engine.data.folder.count_photos`` does."""
        return count_photos(self, paths)

    def annotation(self, folder: Path) -> Annotation:
        """Return captions by the splits of the table; without such a column, by those of a hash."""
        path, words = folder / self.table, ""
        records = read_records(path)
        images = find_images(folder, None, [record.image for record in records])
        records, absent = present(records, images, self.missing)
        if all(record.split is None for record in records):
            fractions = {"val": self.val_fraction, "test": self.test_fraction}
            records, words = divided(records, path, fractions, seed=self.seed)
        return replace(annotated(path, records), images=images, absent=absent, divided=words)


def claims(folder: Path, files: Sequence[Path]) -> list[dict[str, str]]:
    """Return the option for each table with the columns ``image`` and ``caption`` among ``files``."""
    return [{"table": named(file, folder)} for file in files if {*COLUMNS[:2]} <= columns(file)]


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
