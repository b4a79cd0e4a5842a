"""Decode image files once into a memory-mapped uint8 array."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps
from tqdm import tqdm

from engine.data.cache import cached_array
from engine.data.digests import file_digests
from engine.io.files import digest

T = TypeVar("T")

THREADS = min(8, len(os.sched_getaffinity(0)))
CHUNK = 64  # files handed to the threads at once, so that decoded images do not pile up in memory


def locate_images(root: Path, names: Sequence[str], *, annotation: Path) -> list[Path]:
    """Return the file of every image name below ``root``; ``annotation`` is the file the names come from.

    Symbolic links below ``root`` are followed: a name in an annotation can create none, so they are the owner's.

    Raises:
        ValueError: a name leads out of ``root``, by ``..`` or as an absolute path.
        FileNotFoundError: images are absent.
    """
    for name in names:
        if leaves_folder(name):
            raise ValueError(f"{annotation}: image {name!r} leads out of the image folder {root}, which is refused.")
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{annotation}: image {missing[0]!r} is not in {root}; {len(missing)} of {len(names)} images are missing."
        )
    return [root / name for name in names]


def leaves_folder(name: str) -> bool:
    """Return whether a name is no relative path inside a folder: empty, absolute, or with a ``..`` in it."""
    return not name or Path(name).is_absolute() or ".." in Path(name).parts


def decoded_images(files: Sequence[Path], *, image_px: int, cache: Path) -> UInt8[np.ndarray, "n 3 h w"]:
    """Return the images as RGB squares of ``image_px`` (aspect ratio not kept), a read-only memory map below ``cache``.

    The array is keyed by the bytes of the files and their order, so a renamed or touched file is not decoded again and
    a changed one is. For this, files are read once, and again when their size or time of change differs.

    Raises:
        ValueError: ``image_px`` is not positive, or a file is not an image that can be decoded.
    """
    if image_px < 1:
        raise ValueError(f"image_px: expected a positive number of pixels, got {image_px}.")

    def fill(array: np.ndarray) -> None:
        images = _threaded(lambda file: decode(file, image_px=image_px), files, label="decoding images")
        for index, image in enumerate(images):
            array[index] = image

    def read(changed: Sequence[Path]) -> Iterator[str]:
        return _threaded(lambda file: digest(file.read_bytes()), changed, label="reading images")

    shape = (len(files), 3, image_px, image_px)
    with file_digests(files, cache=cache / "contents", read=read) as contents:
        key = digest("decoded_images/1", str(image_px), *contents)
        return cached_array(cache / "images", key, shape=shape, dtype=np.uint8, fill=fill)


def decode(file: Path, *, image_px: int) -> UInt8[np.ndarray, "3 h w"]:
    """Decode one image file: upright by its EXIF tag, RGB, resized bicubically to a square.

    Raises:
        ValueError: the file is not an 8-bit image that Pillow can decode.
    """
    try:
        with Image.open(file) as opened:
            if opened.mode.startswith(("I", "F")):
                raise ValueError(f"mode {opened.mode} is not 8-bit")
            upright = ImageOps.exif_transpose(opened)
            mode = "RGBA" if "transparency" in upright.info else "RGB"
            rgb = upright.convert(mode).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file}: expected an image, but it cannot be decoded ({error}).") from error
    square = rgb.resize((image_px, image_px), Image.Resampling.BICUBIC)
    return np.asarray(square, dtype=np.uint8).transpose(2, 0, 1)


def _threaded(function: Callable[[Path], T], files: Sequence[Path], *, label: str) -> Iterator[T]:
    """Apply ``function`` to every file in a few threads, and yield the results in order."""
    with ThreadPoolExecutor(THREADS) as pool, tqdm(total=len(files), desc=label, disable=None) as bar:
        for start in range(0, len(files), CHUNK):
            for result in pool.map(function, files[start : start + CHUNK]):
                yield result
                bar.update()
