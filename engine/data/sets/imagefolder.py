"""Hugging Face's image folder: photos beside a ``metadata.csv`` or ``metadata.jsonl`` of ``file_name, text`` rows."""

import os.path
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.data.folder import Missing, SamePhoto, arranged, count_photos, load_photos
from engine.data.locate import Links
from engine.data.pairs import PairDataset, Size
from engine.data.peek import only, text_files
from engine.data.records import Annotation, Record, captions_of, image_name
from engine.data.splits import Part, by_folder
from engine.data.tables import columns, read_table
from engine.io.paths import Paths
from engine.ranges import Count

PHOTO, CAPTION = "file_name", ("text", "caption")


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Photos with the captions of ``metadata.csv``, ``.jsonl`` or ``.parquet``: one such file, or one in each split.

    Its columns are ``file_name``, relative to its own folder, and ``text`` (or ``caption``). The splits are folders
    called train, validation (or val) and test; what they lack is made by a hash.

    Args:
        root: folder of the data set, below ``paths.data`` unless absolute.
        metadata: name of the files of captions, which lie in ``root`` or folders of it; None: the only one.
        image_px: side of the decoded images.
        val_fraction, test_fraction: fractions of the photos that become val and test where there are no such folders.
        seed: selects that split.
        missing, same_photo: which photos are refused: as in ``engine.data.folder``.
        links: which symbolic links are followed: as in ``engine.data.locate``.
    """

    root: str
    metadata: str | None = None
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
        """Return the size of each split; raises as ``engine.data.folder.count_photos`` does."""
        return count_photos(self, paths)

    def annotation(self, folder: Path) -> Annotation:
        """Return the captions of every split.

        Raises:
            FileNotFoundError: there is no file of captions.
            ValueError: there are several kinds of them, or one cannot be read, or some photos alone are in folders of
                splits.
        """
        files = list(text_files(folder))
        name = self.metadata or only("metadata", None, claims(folder, files), folder).name
        chosen = [file for file in files if file.name == name] or [folder / name]
        records = [record for file in chosen for record in read_metadata(file, folder)]
        return arranged(self, folder / name, by_folder(records, folder), folder)


def claims(folder: Path, files: Sequence[Path]) -> list[dict[str, str]]:
    """Return the option for each name among ``files`` of a table with a column ``file_name``."""
    return [{"metadata": name} for name in sorted({file.name for file in files if PHOTO in columns(file)})]


def read_metadata(path: Path, folder: Path) -> Iterator[Record]:
    """Yield a record for each row; photos are named relative to ``folder``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or a column or a value is missing.
    """
    if not path.is_file():
        raise FileNotFoundError(f"data.metadata: there is no file {path}.")
    below, there = os.path.relpath(path.parent, folder), columns(path)
    caption = next((name for name in CAPTION if name in there), CAPTION[0])
    for number, row in enumerate(read_table(path, (PHOTO, caption)), start=1):
        where = f"{path}: row {number}"
        image = image_name(row, PHOTO, where, folder=below)
        yield Record(f"row {number}", image, captions_of(row, caption, where), None)
