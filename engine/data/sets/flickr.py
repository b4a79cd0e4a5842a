"""Flickr8k and Flickr30k as they are downloaded: a token file with lists of the splits, or ``results.csv``."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.data.folder import DividedPhotos, arranged, find_images
from engine.data.peek import first_line, named, only, text_files
from engine.data.records import Annotation, Record, image_name, optional_caption
from engine.data.splits import split_in
from engine.io.files import decoded
from engine.io.sentences import counted, shown

TOKEN = re.compile(r"(?P<photo>[^\t#]+)#\d+\t(?P<caption>.*)")
RESULT = re.compile(r"(?P<photo>[^|,]+?)\s*[|,]\s*\d+\s*(?P<bar>[|,]?)\s*(?P<caption>.*)")
HEADER = re.compile(r"\s*image_name\s*[|,]\s*comment_number\s*[|,]\s*comment\s*")


@dataclass(frozen=True, kw_only=True)
class DataSet(DividedPhotos):
    """Photos with the captions of ``Flickr8k.token.txt``, ``results_20130124.token`` or ``results.csv``.

    The splits are those of lists such as ``Flickr_8k.trainImages.txt``, with one photo a line; photos in none of them
    are left out. Where there are no lists, photos are dealt by a hash. A row of ``results.csv`` without its second bar,
    as Flickr30k has one, is mended.

    Args:
        captions: the file of captions, below ``root`` unless absolute; None: the only one.
        images: folder below ``root`` that holds the photos; None: the one that does.

    References:
        Hodosh, Young and Hockenmaier, JAIR 2013; Young et al., TACL 2014.
    """

    captions: str | None = None
    images: str | None = None

    def annotation(self, folder: Path) -> Annotation:
        """Return captions by the splits of the lists; without lists, by those of a hash."""
        path = only("captions", self.captions, claims(folder, list(text_files(folder))), folder)
        records, mended = _read(path)
        images = find_images(folder, self.images, [record.image for record in records])
        records, unlisted, strange = _split_by_lists(records, folder)
        lemmas = [f"{file.name} (captions of lemmas)" for file in sorted(path.parent.glob("*.lemma.token*"))]
        return arranged(self, path, records, images, left_out=[*mended, *strange, *lemmas], unlisted=unlisted)


def claims(folder: Path, files: Sequence[Path]) -> list[dict[str, str]]:
    """Return the option for each file of captions among ``files``; that of Flickr8k's lemmas is none."""
    return [
        {"captions": named(file, folder)}
        for file in files
        if file.suffix.lower() in (".txt", ".token", ".csv") and ".lemma." not in file.name
        if TOKEN.match(line := first_line(file)) or HEADER.fullmatch(line)
    ]


def _read(path: Path) -> tuple[list[Record], list[str]]:
    """Return a record for each row of a token file or of ``results.csv``, and a sentence about mended rows."""
    try:
        lines = [line.rstrip("\n") for line in io.StringIO(decoded(path.read_bytes()), newline=None)]
    except ValueError as error:
        raise ValueError(f"{path}: expected a file of captions, but it cannot be read ({error}).") from error
    results = bool(HEADER.fullmatch(next(filter(str.strip, lines), "")))
    rows = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()][results:]
    pattern, expected = (RESULT, "photo| number| caption") if results else (TOKEN, "photo#number, a tab and a caption")
    records, mended = list[Record](), list[str]()
    for number, line in rows:
        row = pattern.fullmatch(line)
        if row is None:
            raise ValueError(f"{path}: line {number} is {shown(line)}, expected {expected}.")
        if results and not row["bar"]:
            mended.append(f"line {number}")
        where, caption = f"line {number}", row["caption"]
        if results and caption[:1] == caption[-1:] == '"':
            caption = caption[1:-1].replace('""', '"')
        name = image_name({"photo": row["photo"]}, "photo", f"{path}: {where}")
        records.append(Record(where, name, optional_caption(caption, "caption", f"{path}: {where}"), None))
    return records, [f"the second '|' is not there in {counted(mended, 'row')}, mended"] * bool(mended)


def _split_by_lists(records: Sequence[Record], folder: Path) -> tuple[list[Record], list[str], list[str]]:
    """Return the records with the splits of the lists, the photos in no list, and a sentence about strange names.

    A list is a text whose name holds a split and whose first line is a photo; photos may be listed without ``.jpg``.
    """
    photos = {record.image for record in records}
    splits: dict[str, list[str]] = {}
    for file in text_files(folder):
        split = split_in(file.stem)
        if split and file.suffix.lower() == ".txt" and {line := first_line(file).strip(), f"{line}.jpg"} & photos:
            lines = [line.strip() for line in decoded(file.read_bytes()).splitlines() if line.strip()]
            for name in dict.fromkeys(line if line in photos else f"{line}.jpg" for line in lines):
                splits.setdefault(name, []).append(split)
    if not splits:
        return list(records), [], []
    unlisted, strange = sorted(photos - splits.keys()), sorted(splits.keys() - photos)
    sentence = [counted(strange, "name in the lists of splits that no caption has")] * bool(strange)
    return [r._replace(split=split) for r in records for split in splits.get(r.image, ())], unlisted, sentence
