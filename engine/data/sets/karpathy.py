"""Flickr8k, Flickr30k and COCO: Karpathy's ``dataset_*.json`` and the flat lists of published code."""

import os.path
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
        """Return the captions of every split."""
        path = _annotations(folder, self.annotations)
        flat = path.name.endswith("_train.json")
        records = list(_flat_records(path) if flat else _karpathy_records(path, restval=self.restval))
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


def _annotations(folder: Path, name: str | None) -> Path:
    """Return the annotation file ``name``; None: the only one in ``folder`` (the train file of a flat list)."""
    folders = [folder / below for below in (".", "ann_file", "annotations")]
    if name is not None:
        found = [below / name for below in folders if os.path.isfile(below / name)]
        if not found:
            raise FileNotFoundError(f"data.annotations: there is no file {name!r} in {folder}.")
        return found[0]
    found = [
        path for below in folders for like in ("dataset_*", "*_train") for path in sorted(below.glob(f"{like}.json"))
    ]
    if not found:
        others = [path for below in folders for path in sorted(below.glob("*")) if path.name.lower().endswith(".json")]
        there = listed([shown(str(path.relative_to(folder))) for path in others]) or "none"
        raise FileNotFoundError(
            f"{folder}: expected a dataset_*.json or *_train.json with the captions, but the JSON files are {there}."
        )
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found)
        raise ValueError(f"{folder}: several annotation files ({names}); name one of them as data.annotations.")
    return found[0]


def _karpathy_records(path: Path, *, restval: bool) -> Iterator[Record]:
    """Yield the entries of ``{"images": [{"filename", "filepath"?, "split", "sentences": [{"raw"}]}]}``.

    Those of COCO's ``restval`` become train, or are left out.
    """
    content = read_json(path)
    check_keys(content if isinstance(content, dict) else (), ("images",), path)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise ValueError(f"{path}: expected an object with a list 'images', the Karpathy layout.")
    for index, entry in enumerate(content["images"]):
        where = f"{path}: images[{index}]"
        check_keys(entry if isinstance(entry, dict) else (), ("filename", "filepath", "split", "sentences"), where)
        split = text_of(entry, "split", where)
        folder = text_of(entry, "filepath", where) if entry.get("filepath") else ""
        name = image_name(entry, "filename", where, folder=folder)
        captions: list[str] = []
        for sentence in list_of(entry, "sentences", where):
            check_keys(sentence if isinstance(sentence, dict) else (), ("raw",), where)
            captions += captions_of(sentence, "raw", where)
        if restval or split != "restval":
            yield Record(f"images[{index}]", name, captions, "train" if split == "restval" else split)


def _flat_records(train: Path) -> Iterator[Record]:
    """Yield the rows ``{"image", "caption"}`` of the three files of a flat list, of which ``train`` is the first.

    A caption is a text or a list of texts.
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
