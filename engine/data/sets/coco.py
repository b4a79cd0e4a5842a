"""COCO as it is downloaded: ``captions_train2014.json`` and ``captions_val2014.json`` beside folders of photos."""

import os.path
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from engine.data.folder import DividedPhotos, arranged, find_images
from engine.data.peek import head, named, only, tail, text_files
from engine.data.records import SPLITS, Annotation, Record, image_name, list_of, optional_caption
from engine.data.splits import split_in
from engine.io.files import read_json
from engine.io.sentences import shown

_SPLIT = re.compile("train|val|test")


@dataclass(frozen=True, kw_only=True)
class DataSet(DividedPhotos):
    """Photos with the captions of COCO's own files, of 2014 or 2017, or of others in their format.

    COCO has captions of train and val alone, so test is one half of val, by a hash. These are not the splits of
    Karpathy, which published tables use: for those, ``data.name=karpathy`` reads ``dataset_coco.json``.

    Args:
        captions: one of the files of captions, below ``root`` unless absolute; those of the other splits are beside
            it (``annotations/captions_train2017.json``); None: the only ones.
        images: folder below ``root`` that holds the photos, or the folders of the splits; None: the ones that do.

    References:
        Chen et al., arXiv 1504.00325.
    """

    captions: str | None = None
    images: str | None = None

    def annotation(self, folder: Path) -> Annotation:
        """Return the captions of every split."""
        path = only("captions", self.captions, claims(folder, list(text_files(folder))), folder)
        base = folder / (self.images or ".")
        records = [record for file in _group(path) for record in _records(file, base)]
        annotation = arranged(self, path, records, base)
        not_his = f"{annotation.divided}; these are not Karpathy's splits" * bool(annotation.divided)
        return replace(annotation, divided=not_his)


def claims(folder: Path, files: Sequence[Path]) -> list[dict[str, str]]:
    """Return the option for the first of each group of files in COCO's format with captions."""
    found = (file for file in files if file.suffix.lower() == ".json" and head(file).lstrip().startswith("{"))
    ours = (file for file in found if all(key in head(file) + tail(file) for key in ('"image_id"', '"caption"')))
    return [{"captions": named(file, folder)} for file in dict.fromkeys(_group(file)[0] for file in ours)]


def _group(path: Path) -> list[Path]:
    """Return the files beside ``path`` whose names differ from its own in the split alone, train first."""
    names = (_SPLIT.sub(split, path.name, count=1) for split in SPLITS)
    return [file for name in dict.fromkeys(names) if os.path.isfile(file := path.with_name(name))]


def _records(path: Path, base: Path) -> Iterator[Record]:
    """Yield a record for each annotation of ``{"images": [{"id", "file_name"}], "annotations": [{"image_id",
    "caption"}]}``, with the name of its photo, which may lie in any folder of ``base``, relative to ``base``.
    """
    content = read_json(path)
    names = {}
    for index, entry in enumerate(list_of(content, "images", path)):
        where = f"{path}: images[{index}]"
        names[_number(entry, "id", where)] = image_name(entry, "file_name", where)
    below = os.path.relpath(find_images(base, None, list(names.values())), base)
    for index, entry in enumerate(list_of(content, "annotations", path)):
        where = f"{path}: annotations[{index}]"
        image = names.get(_number(entry, "image_id", where))
        if image is None:
            raise ValueError(f"{where}: 'image_id' is {shown(entry['image_id'])}, expected the id of an image.")
        caption = optional_caption(entry.get("caption"), "caption", where)
        name = str(PurePosixPath(below) / image)
        yield Record(f"annotations[{index}] of {path.name}", name, caption, split_in(path.stem))


def _number(entry: Any, key: str, where: str) -> int | str:
    """Return the id under ``key``."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, int | str):
        raise ValueError(f"{where}: {key!r} is {shown(value)}, expected a number.")
    return value
