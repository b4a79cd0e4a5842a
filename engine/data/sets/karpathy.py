"""Flickr8k, Flickr30k and COCO: Karpathy's ``dataset_*.json`` and the flat lists of the field."""

from pathlib import Path
from typing import Any

from engine.data.folder import SPLITS, Captions, read_splits, sizes_of
from engine.data.images import leaves_folder
from engine.data.pairs import PairDataset, Size
from engine.io.files import read_json
from engine.io.paths import Paths

ANNOTATION_FOLDERS = (".", "ann_file", "annotations")
PROBED_NAMES = 50  # images looked for in each candidate when finding the image folder


def load(
    paths: Paths,
    *,
    root: str,
    image_px: int = 128,
    annotations: str | None = None,
    images: str | None = None,
    restval: bool = True,
) -> dict[str, PairDataset]:
    """Read train, val and test with all captions of every image; images are squashed to squares of ``image_px``.

    Args:
        places: where data and caches lie.
        root: folder of the data set, below ``places.data`` unless absolute.
        image_px: side of the decoded images.
        annotations: ``dataset_*.json``, or the ``*_train.json`` of a flat list whose ``*_val.json`` and ``*_test.json``
            lie beside it, below ``root``; found by itself where there is only one.
        images: folder below ``root`` that image names are relative to; found by itself.
        restval: let COCO's ``restval`` images join train, as all published work does; otherwise they are left out.

    Raises:
        FileNotFoundError: a folder, the annotations or images are absent.
        ValueError: the annotations are ambiguous or not in one of the two layouts, or an image cannot be decoded.

    References:
        Karpathy and Fei-Fei, arXiv 1412.2306 (the splits).
    """
    folder, annotation = _places_of(paths, root, annotations)
    splits = read_annotation(annotation, restval=restval)
    image_root = find_image_root(folder, images, [name for captions in splits.values() for name in captions])
    return read_splits(splits, image_root, annotation=annotation, image_px=image_px, cache=paths.cache)


def sizes(
    paths: Paths,
    *,
    root: str,
    image_px: int = 128,
    annotations: str | None = None,
    images: str | None = None,
    restval: bool = True,
) -> dict[str, Size]:
    """Return the size of each split that ``load`` would return, from the annotations alone.

    Raises:
        FileNotFoundError: the folder or the annotations are absent.
        ValueError: the annotations are ambiguous or not in one of the two layouts.
    """
    return sizes_of(read_annotation(_places_of(paths, root, annotations)[1], restval=restval))


def _places_of(paths: Paths, root: str, annotations: str | None) -> tuple[Path, Path]:
    """Return the folder of the data set and its annotation file."""
    folder = paths.data_path(root)
    if not folder.is_dir():
        raise FileNotFoundError(f"data.root: {root!r} is not a folder ({folder}); is VLDD_DATA set?")
    return folder, find_annotation(folder, annotations)


# --- which files ------------------------------------------------------------------------------------------------------


def find_annotation(folder: Path, name: str | None) -> Path:
    """Return the annotation file called ``name``, or the only one in ``folder``; of a flat list, its train file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several and ``name`` is None.
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
    """Return the folder ``name``, or whichever of ``folder`` and its subfolders holds the most of the first images.

    Raises:
        FileNotFoundError: the folder is absent, or none of them holds any.
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


# --- what is in them --------------------------------------------------------------------------------------------------


def read_annotation(annotation: Path, *, restval: bool) -> dict[str, Captions]:
    """Read the captions of every split from either layout.

    Raises:
        ValueError: the file is in neither.
    """
    if annotation.name.endswith("_train.json"):
        return read_flat(annotation)
    return read_karpathy(annotation, restval=restval)


def read_karpathy(annotation: Path, *, restval: bool) -> dict[str, Captions]:
    """Read ``{"images": [{"filename", "filepath"?, "split", "sentences": [{"raw"}]}]}``.

    Raises:
        ValueError: a key is absent or a split unknown.
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
    """Read ``[{"image", "caption"}]``, one row a caption or one row an image with a list of captions.

    Raises:
        FileNotFoundError: the val or test file is absent.
        ValueError: a key is absent.
    """
    splits = {}
    for split in SPLITS:
        path = train.with_name(train.name.removesuffix("train.json") + f"{split}.json")
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected beside {train.name}, but it is absent.")
        splits[split] = flat_captions(path)
    return splits


def flat_captions(path: Path) -> Captions:
    """Read one flat list; rows of the same image are put together.

    Raises:
        ValueError: the file is not a list of such rows.
    """
    rows = read_json(path)
    if not isinstance(rows, list):
        raise ValueError(f"{path}: expected a list of rows with 'image' and 'caption'.")
    captions: Captions = {}
    for index, row in enumerate(rows):
        where = f"{path}: [{index}]"
        captions.setdefault(text_of(row, "image", where), []).extend(row_captions(row, where))
    return captions


def row_captions(row: dict[str, Any], where: str) -> list[str]:
    """Return the caption or the captions of one row of a flat list.

    Raises:
        ValueError: there is none, or it is not text.
    """
    value = row.get("caption")
    if not isinstance(value, list):
        return [text_of(row, "caption", where)]
    if not value or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{where}: expected a list of texts under 'caption', got {value!r}.")
    return [text.strip() for text in value]


def text_of(entry: Any, key: str, where: str) -> str:
    """Return the text under ``key``, without the blanks around it.

    Raises:
        ValueError: it is absent or not text.
    """
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, str):
        raise ValueError(f"{where}: expected text under {key!r}, got {value!r}.")
    return value.strip()


def list_of(entry: dict[str, Any], key: str, where: str) -> list[Any]:
    """Return the list under ``key``.

    Raises:
        ValueError: it is absent or not a list.
    """
    value = entry.get(key)
    if not isinstance(value, list):
        raise ValueError(f"{where}: expected a list under {key!r}, got {value!r}.")
    return value
