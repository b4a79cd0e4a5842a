"""Own photos: a folder of images and a table of ``image, caption[, split]`` rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.data.folder import DividedPhotos, find_images, present
from engine.data.peek import named
from engine.data.records import Annotation, annotated
from engine.data.splits import divided
from engine.data.tables import COLUMNS, columns, read_records


@dataclass(frozen=True, kw_only=True)
class DataSet(DividedPhotos):
    """Photos in ``root`` with the captions in ``table``, one a row; photos are resized to squares.

    Args:
        root: folder that image names are relative to, or that has a folder they are relative to, below ``paths.data``
            unless absolute.
        table: CSV, JSONL or Parquet file, below ``root`` unless absolute, with the columns ``image`` and ``caption``
            and, optionally, ``split`` (train, val or test). JSONL and Parquet may hold lists of captions.
    """

    table: str

    def annotation(self, folder: Path) -> Annotation:
        """Return captions by the splits of the table; without such a column, by those of a hash."""
        path, words = folder / self.table, ""
        records = read_records(path)
        images = find_images(folder, None, [record.image for record in records])
        records, absent = present(records, images, self.missing)
        if all(record.split is None for record in records):
            val, test = self.val_fraction, self.test_fraction
            records, words = divided(records, path, val=val, test=test, seed=self.seed)
        return replace(annotated(path, records), images=images, absent=absent, divided=words)


def claims(folder: Path, files: Sequence[Path]) -> list[dict[str, str]]:
    """Return the option for each table with the columns ``image`` and ``caption`` among ``files``."""
    return [{"table": named(file, folder)} for file in files if {*COLUMNS[:2]} <= columns(file)]
