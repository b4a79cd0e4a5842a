"""Flickr8k, Flickr30k and COCO: Karpathy's ``dataset_*.json`` and the flat lists of published code."""

import os.path
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.data.folder import Photos, find_images, present
from engine.data.peek import head, named
from engine.data.records import (
    SPLITS,
    Annotation,
    Record,
    annotated,
    captions_of,
    check_keys,
    image_name,
    list_of,
    text_of,
)
from engine.io.files import read_json
from engine.io.sentences import listed, shown

ANNOTATION_FOLDERS = (".", "ann_file", "annotations")
ENTRY_KEYS = ("filename", "filepath", "split", "sentences")


@dataclass(frozen=True, kw_only=True)
class DataSet(Photos):
    """Images with all captions of Karpathy's splits; images are resized to squares of ``image_px`` pixels.

    Args:
        annotations: ``dataset_*.json``, or the ``*_train.json`` of a flat list with ``*_val.json`` and ``*_test.json``
            beside it, below ``root``; None: the only such file.
        images: folder below ``root`` that image names are relative to; None: the folder that holds the images.
        restval: put COCO's ``restval`` images into train, as all published work does; otherwise they are left out.

    References:
        Karpathy and Fei-Fei, arXiv 1412.2306 (the splits).
    """

    annotations: str | None = None
    images: str | None = None
    restval: bool = True

    def annotation(self, folder: Path) -> Annotation:
        """Return the captions of every split.

        Raises:
            FileNotFoundError: there are no annotations.
            ValueError: they are ambiguous or in neither layout.
        """
        path = find_annotation(folder, self.annotations)
        flat = path.name.endswith("_train.json")
        records = list(read_flat(path) if flat else read_karpathy(path, restval=self.restval))
        images = find_images(folder, self.images, [record.image for record in records])
        records, absent = present(records, images, self.missing)
        known = "train, val or test" if flat else "train, val, test or restval"
        named = () if self.images is None else (images,)
        return replace(annotated(path, records, known=known), images=images, named=named, absent=absent)


def claims(folder: Path, files: Sequence[Path]) -> list[dict[str, str]]:
    """Return the option for each JSON file among ``files`` that begins as one of the two layouts does."""
    found = []
    for file in files:
        text = head(file) if file.suffix.lower() == ".json" else ""
        flat = file.name.endswith("_train.json") and text.lstrip().startswith("[") and '"caption"' in text
        if flat or '"sentences"' in text:
            found.append({"annotations": named(file, folder)})
    return found


def find_annotation(folder: Path, name: str | None) -> Path:
    """Return the annotation file ``name``; None: the only one in ``folder`` (the train file of a flat list).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there are several files and ``name`` is None.
    """
    if name is not None:
        found = [folder / below / name for below in ANNOTATION_FOLDERS if os.path.isfile(folder / below / name)]
        if not found:
            raise FileNotFoundError(f"data.annotations: there is no file {name!r} in {folder}.")
        return found[0]
    found = [
        path
        for below in ANNOTATION_FOLDERS
        for pattern in ("dataset_*.json", "*_train.json")
        for path in sorted((folder / below).glob(pattern))
    ]
    if not found:
        others = [str(path.relative_to(folder)) for b in ANNOTATION_FOLDERS for path in sorted((folder / b).glob("*"))]
        there = listed([shown(name) for name in others if name.lower().endswith(".json")]) or "none"
        raise FileNotFoundError(
            f"{folder}: expected a dataset_*.json or *_train.json with the captions, but the JSON files are {there}."
        )
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found)
        raise ValueError(f"{folder}: several annotation files ({names}); name one of them as data.annotations.")
    return found[0]


def read_karpathy(path: Path, *, restval: bool) -> Iterator[Record]:
    """Yield the entries of ``{"images": [{"filename", "filepath"?, "split", "sentences": [{"raw"}]}]}``.

    Those of COCO's ``restval`` become train, or are left out.

    Raises:
        ValueError: a key is missing or misspelt, or a value is not as it should be.
    """
    for index, entry in enumerate(_listed_in(path)):
        where = f"{path}: images[{index}]"
        check_keys(entry if isinstance(entry, dict) else (), ENTRY_KEYS, where)
        split = text_of(entry, "split", where)
        folder = text_of(entry, "filepath", where) if entry.get("filepath") else ""
        name = image_name(entry, "filename", where, folder=folder)
        captions = []
        for sentence in list_of(entry, "sentences", where):
            check_keys(sentence if isinstance(sentence, dict) else (), ("raw",), where)
            captions.append(captions_of(sentence, "raw", where))
        if restval or split != "restval":
            split = "train" if split == "restval" else split
            yield Record(f"images[{index}]", name, [text for texts in captions for text in texts], split)


def _listed_in(path: Path) -> list[Any]:
    """Return the list of a file of Karpathy's layout."""
    content = read_json(path)
    if isinstance(content, dict):
        check_keys(content, ("images",), path)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise ValueError(f"{path}: expected an object with a list 'images', the Karpathy layout.")
    return content["images"]


def read_flat(train: Path) -> Iterator[Record]:
    """Yield the rows of the three files of a flat list, of which ``train`` is the first.

    A row is ``{"image", "caption"}``, where a caption is a text or a list of texts.

    Raises:
        FileNotFoundError: the val or test file is missing.
        ValueError: a file is not a list of such rows.
    """
    for split in SPLITS:
        path = train.with_name(train.name.removesuffix("train.json") + f"{split}.json")
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected beside {train.name}, but it is missing.")
        rows = read_json(path)
        if not isinstance(rows, list):
            raise ValueError(f"{path}: expected a list of rows with 'image' and 'caption'.")
        for index, row in enumerate(rows):
            where = f"{path}: [{index}]"
            check_keys(row if isinstance(row, dict) else (), ("image", "caption"), where)
            name, captions = image_name(row, "image", where), captions_of(row, "caption", where)
            yield Record(f"{path.name}[{index}]", name, captions, split)
