"""Folders of pairs as WebDataset's tools write them: ``0001.jpg`` with its captions in ``0001.txt``."""

import os.path
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.data.folder import DividedPhotos, arranged
from engine.data.peek import PHOTO, files_below
from engine.data.records import Annotation, Record, optional_caption
from engine.data.splits import by_folder
from engine.io.files import decoded
from engine.io.sentences import counted


@dataclass(frozen=True, kw_only=True)
class DataSet(DividedPhotos):
    """Photos with a text of the same name beside each, one caption a line, in ``root`` and folders at any depth.

    The splits are folders called train, validation (or val) and test; without such folders, those of a hash.
    """

    def annotation(self, folder: Path) -> Annotation:
        """Return the captions of every split."""
        photos, texts = _photos_and_texts(folder)
        records = []
        for photo in photos:
            if (stem := os.path.splitext(photo)[0]) in texts:
                where = f"{stem}.txt"
                try:
                    lines = decoded((folder / where).read_bytes()).splitlines() or [""]
                except ValueError as error:
                    raise ValueError(
                        f"{folder / where}: expected captions, but it cannot be read ({error})."
                    ) from error
                captions = [text for line in lines for text in optional_caption(line, "caption", folder / where)]
                records.append(Record(where, photo, captions, None))
        if not records:
            raise FileNotFoundError(f"{folder}: expected photos with texts of the same name beside them, found none.")
        lonely = [f"{stem}.txt" for stem in sorted(texts - {os.path.splitext(photo)[0] for photo in photos})]
        left_out = [counted(lonely, "text without a photo")] * bool(lonely)
        return arranged(self, folder, by_folder(records, folder), folder, left_out=left_out)


def claims(folder: Path, files: Sequence[Path]) -> list[dict[str, str]]:
    """Return no option, once, where most texts in ``folder`` have a photo of the same name beside them."""
    photos, texts = _photos_and_texts(folder)
    paired = texts & {os.path.splitext(photo)[0] for photo in photos}
    return [{}] if len(paired) > len(texts) / 2 else []


def _photos_and_texts(folder: Path) -> tuple[list[str], set[str]]:
    """Return the names of all photos below ``folder``, and of all texts without their suffix."""
    return list(files_below(folder, PHOTO)), {name[: -len(".txt")] for name in files_below(folder, {".txt"})}
