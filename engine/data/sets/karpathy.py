"""Flickr8k, Flickr30k and COCO: Karpathy's ``dataset_*.json`` and the flat lists of published code."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.data.folder import SPLITS, Captions, find_root, read_splits, sizes_of
from engine.data.images import leaves_folder
from engine.data.pairs import PairDataset, Size
from engine.io.files import read_json
from engine.io.paths import Paths
from engine.ranges import Count

ANNOTATION_FOLDERS = (".", "ann_file", "annotations")
PROBED_NAMES = 50
"""Number of images looked up in each candidate folder when the image folder is searched for."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Images with all captions of Karpathy's splits; images are resized to squares of ``image_px`` pixels.

    Args:
        root: folder of the data set, below ``paths.data`` unless absolute.
        image_px: side of the decoded images.
        annotations: ``dataset_*.json``, or the ``*_train.json`` of a flat list with ``*_val.json`` and ``*_test.json``
            beside it, below ``root``; None: the only such file.
        images: folder below ``root`` that image names are relative to; None: the folder that holds the images.
        restval: put COCO's ``restval`` images into train, as all published work does; otherwise they are left out.

    References:
        Karpathy and Fei-Fei, arXiv 1412.2306 (the splits).
    """

    root: str
    image_px: Count = 128
    annotations: str | None = None
    images: str | None = None
    restval: bool = True

    def load(self, paths: Paths) -> dict[str, PairDataset]:
        """Read train, val and test.

        Raises:
            FileNotFoundError: a folder, the annotations or images are missing.
            ValueError: the annotations are ambiguous or in neither layout, or an image cannot be decoded.
        """
        folder = find_root(paths, self.root)
        annotation = find_annotation(folder, self.annotations)
        splits = read_annotation(annotation, restval=self.restval)
        image_root = find_image_root(folder, self.images, [name for captions in splits.values() for name in captions])
        return read_splits(splits, image_root, annotation=annotation, image_px=self.image_px, cache=paths.cache)

    def sizes(self, paths: Paths) -> dict[str, Size]:
        """Return the size of each split from the annotations alone.

        Raises:
            FileNotFoundError: the folder or the annotations are missing.
            ValueError: the annotations are ambiguous or in neither layout.
        """
        annotation = find_annotation(find_root(paths, self.root), self.annotations)
        return sizes_of(read_annotation(annotation, restval=self.restval))


def find_annotation(folder: Path, name: str | None) -> Path:
    """Return the annotation file ``name``; None: the only one in ``folder`` (the train file of a flat list).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there are several files and ``name`` is None.
    """
    if name is not None:
        found = [folder / below / name for below in ANNOTATION_FOLDERS if (folder / below / name).is_file()]
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
        raise FileNotFoundError(f"{folder}: expected a dataset_*.json or *_train.json with the captions, found none.")
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found)
        raise ValueError(f"{folder}: several annotation files ({names}); name one of them as data.annotations.")
    return found[0]


def find_image_root(folder: Path, name: str | None, image_names: list[str]) -> Path:
    """Return the folder ``name``; None: the one of ``folder`` and its subfolders that holds most of the first images.

    Raises:
        FileNotFoundError: the folder is missing, or none of them holds an image.
    """
    if name is not None:
        if not (folder / name).is_dir():
            raise FileNotFoundError(f"data.images: {name!r} is not a folder in {folder}.")
        return folder / name
    probed = [name for name in image_names[:PROBED_NAMES] if not leaves_folder(name)]
    candidates = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    hits = [sum((candidate / name).is_file() for name in probed) for candidate in candidates]
    if probed and not any(hits):
        raise FileNotFoundError(
            f"{folder}: neither it nor a folder in it holds {probed[0]!r}; name the image folder as data.images."
        )
    return candidates[hits.index(max(hits))]


def read_annotation(annotation: Path, *, restval: bool) -> dict[str, Captions]:
    """Read the captions of every split from either layout.

    Raises:
        ValueError: the file is in neither layout.
    """
    if annotation.name.endswith("_train.json"):
        return read_flat(annotation)
    return read_karpathy(annotation, restval=restval)


def read_karpathy(annotation: Path, *, restval: bool) -> dict[str, Captions]:
    """Read ``{"images": [{"filename", "filepath"?, "split", "sentences": [{"raw"}]}]}``.

    Raises:
        ValueError: a key is missing or a split is unknown.
    """
    content = read_json(annotation)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise ValueError(f"{annotation}: expected an object with a list 'images', the Karpathy layout.")
    splits: dict[str, Captions] = {split: {} for split in SPLITS}
    for index, entry in enumerate(content["images"]):
        where = f"{annotation}: images[{index}]"
        split = text_of(entry, "split", where)
        if split == "restval" and not restval:
            continue
        split = "train" if split == "restval" else split
        if split not in splits:
            raise ValueError(f"{where}: split {split!r} is unknown; expected train, val, test or restval.")
        folder = text_of(entry, "filepath", where) if "filepath" in entry else ""
        name = str(Path(folder) / text_of(entry, "filename", where))
        captions = [text_of(sentence, "raw", where) for sentence in list_of(entry, "sentences", where)]
        splits[split].setdefault(name, []).extend(captions)
    return splits


def read_flat(train: Path) -> dict[str, Captions]:
    """Read the three files of a flat list, of which ``train`` is the first.

    Raises:
        FileNotFoundError: the val or test file is missing.
        ValueError: a key is missing.
    """
    splits = {}
    for split in SPLITS:
        path = train.with_name(train.name.removesuffix("train.json") + f"{split}.json")
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected beside {train.name}, but it is missing.")
        splits[split] = flat_captions(path)
    return splits


def flat_captions(path: Path) -> Captions:
    """Read ``[{"image", "caption"}]``, where a caption is a text or a list of texts; rows of one image are joined.

    Raises:
        ValueError: the file is not a list of such rows.
    """
    rows = read_json(path)
    if not isinstance(rows, list):
        raise ValueError(f"{path}: expected a list of rows with 'image' and 'caption'.")
    captions: Captions = {}
    for index, row in enumerate(rows):
        where = f"{path}: [{index}]"
        texts = captions.setdefault(text_of(row, "image", where), [])
        value = row.get("caption")
        if not isinstance(value, list):
            texts.append(text_of(row, "caption", where))
        elif value and all(isinstance(text, str) for text in value):
            texts.extend(text.strip() for text in value)
        else:
            raise ValueError(f"{where}: expected a list of texts under 'caption', got {value!r}.")
    return captions


def text_of(entry: Any, key: str, where: str) -> str:
    """Return the text under ``key`` without surrounding blanks.

    Raises:
        ValueError: it is missing or not a text.
    """
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, str):
        raise ValueError(f"{where}: expected text under {key!r}, got {value!r}.")
    return value.strip()


def list_of(entry: dict[str, Any], key: str, where: str) -> list[Any]:
    """Return the list under ``key``.

    Raises:
        ValueError: it is missing or not a list.
    """
    value = entry.get(key)
    if not isinstance(value, list):
        raise ValueError(f"{where}: expected a list under {key!r}, got {value!r}.")
    return value
