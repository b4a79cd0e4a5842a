"""Data sets made of a folder of image files and the captions of each image."""

from pathlib import Path

import numpy as np

from engine.data.images import decoded_images, locate_images
from engine.data.pairs import PairDataset, Size
from engine.io.paths import Paths

SPLITS = ("train", "val", "test")

Captions = dict[str, list[str]]
"""Captions of each image, by image name, in the order of their file."""


def find_root(paths: Paths, root: str) -> Path:
    """Return the folder ``root`` of a data set, below ``paths.data`` unless absolute.

    Raises:
        FileNotFoundError: it is not a folder.
    """
    folder = paths.data_path(root)
    if not folder.is_dir():
        raise FileNotFoundError(f"data.root: {root!r} is not a folder ({folder}); is VLDD_DATA set?")
    return folder


def read_splits(
    splits: dict[str, Captions], image_root: Path, *, annotation: Path, image_px: int, cache: Path
) -> dict[str, PairDataset]:
    """Decode the images of every split after checking that all files exist.

    Image names are relative to ``image_root``; ``annotation``, the file with the captions, is named in errors.

    Raises:
        FileNotFoundError: images are missing.
        ValueError: splits overlap or are empty, an image name leaves ``image_root``, or a file is not an image.
    """
    check_splits(splits, annotation)
    names = [name for captions in splits.values() for name in captions]
    files = dict(zip(names, locate_images(image_root, names, annotation=annotation), strict=True))
    return {
        split: PairDataset(
            images=decoded_images([files[name] for name in captions], image_px=image_px, cache=cache),
            image_names=tuple(captions),
            captions=tuple(text for texts in captions.values() for text in texts),
            caption_image=np.repeat(np.arange(len(captions)), [len(texts) for texts in captions.values()]),
        )
        for split, captions in splits.items()
    }


def sizes_of(splits: dict[str, Captions]) -> dict[str, Size]:
    """Count the images and the captions of every split."""
    return {split: Size(len(captions), sum(map(len, captions.values()))) for split, captions in splits.items()}


def check_splits(splits: dict[str, Captions], annotation: Path) -> None:
    """Check that no split is empty, every image has a caption, and no image is in two splits.

    Raises:
        ValueError: one of these does not hold.
    """
    seen: dict[str, str] = {}
    for split, captions in splits.items():
        if not captions:
            raise ValueError(f"{annotation}: the split {split!r} has no images.")
        for name, texts in captions.items():
            if not texts:
                raise ValueError(f"{annotation}: image {name!r} has no caption.")
            if name in seen:
                raise ValueError(f"{annotation}: image {name!r} is in {seen[name]!r} and in {split!r}.")
            seen[name] = split
