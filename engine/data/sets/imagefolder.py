"""Hugging Face's image folder: photos beside a ``metadata.csv`` or ``metadata.jsonl`` of ``file_name, text`` rows."""

import os.path
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.data.folder import DividedPhotos, arranged
from engine.data.peek import only, text_files
from engine.data.records import Annotation, Record
from engine.data.splits import by_folder
from engine.data.tables import columns, read_records

PHOTO, CAPTION = "file_name", ("text", "caption")


@dataclass(frozen=True, kw_only=True)
class DataSet(DividedPhotos):
    """Photos with the captions of ``metadata.csv``, ``.jsonl`` or ``.parquet``: one such file, or one in each split.

    Its columns are ``file_name``, relative to its own folder, and ``text`` (or ``caption``). The splits are folders
    called train, validation (or val) and test; what they lack is made by a hash.

    Args:
        metadata: name of the files of captions, which lie in ``root`` or folders of it; None: the only one.
    """

    metadata: str | None = None

    def annotation(self, folder: Path) -> Annotation:
        """Return the captions of every split."""
        files = list(text_files(folder))
        name = self.metadata or only("metadata", None, claims(folder, files), folder).name
        chosen = [file for file in files if file.name == name] or [folder / name]
        records = list[Record]()
        for file in chosen:
            if not file.is_file():
                raise FileNotFoundError(f"data.metadata: there is no file {file}.")
            below, there = os.path.relpath(file.parent, folder), columns(file)
            caption = next((name for name in CAPTION if name in there), CAPTION[0])
            records += read_records(file, (PHOTO, caption), folder=below)
        return arranged(self, folder / name, by_folder(records, folder), folder)


def claims(folder: Path, files: Sequence[Path]) -> list[dict[str, str]]:
    """Return the option for each name among ``files`` of a table with a column ``file_name``."""
    return [{"metadata": name} for name in sorted({file.name for file in files if PHOTO in columns(file)})]
