"""Decode image files once into a memory-mapped uint8 array."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from engine.data.cache import cached_array
from engine.io.files import digest
from engine.io.progress import bar
from engine.io.sentences import cut, listed
from engine.provenance import source_digest

T = TypeVar("T")

THREADS = min(8, len(os.sched_getaffinity(0)))
CHUNK = 64  # files handed to the threads at once, so that decoded images do not pile up in memory

warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")  # damaged EXIF data
Image.init()
FORMATS: list[str] = [n for n in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF") if n in Image.OPEN]
"""What is read, AVIF from Pillow 11.3 on. Pillow knows 40 more formats, of which some start other programs."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How an image with an EXIF orientation is turned upright."""


class UndecodableError(ValueError):
    """Files that are no images; ``reasons`` holds why, by file."""

    reasons: Mapping[Path, str]

    @classmethod
    def of(cls, reasons: Mapping[Path, str], *, among: int = 1) -> "UndecodableError":
        """Return the error that names one file, or the number of several, of ``among``, and the first five."""
        found = [f"{file} ({reason})" for file, reason in reasons.items()]
        sentence = f"{len(found):,} of {among:,} images cannot be decoded: {listed(found)}."
        if len(found) == 1:
            ((file, reason),) = reasons.items()
            sentence = f"{file}: expected an image, but it cannot be decoded ({reason})."
        error = cls(sentence)
        error.reasons = reasons
        return error


def contents(files: Sequence[Path]) -> Iterator[str]:
    """Yield the digest of the bytes of every file."""
    return _threaded(lambda file: digest(file.read_bytes()), files, label="reading images")


def decoded_images(files: Mapping[Path, str], *, image_px: int, cache: Path) -> UInt8[np.ndarray, "n 3 h w"]:
    """Return the images as RGB squares of ``image_px`` (aspect ratio not kept), a read-only memory map below ``cache``.

    The array is keyed by the digests that ``files`` holds and their order, so a renamed or touched file is not decoded
    again and a changed one is, and by this code.

    Raises:
        ValueError: ``image_px`` is not positive.
        UndecodableError: files are not images that can be decoded; all of them are tried.
    """
    if image_px < 1:
        raise ValueError(f"image_px: expected a positive number of pixels, got {image_px}.")

    def attempt(file: Path) -> UInt8[np.ndarray, "3 h w"] | UndecodableError:
        try:
            return decode(file, image_px=image_px)
        except UndecodableError as error:
            return error

    def fill(array: np.ndarray) -> None:
        broken: dict[Path, str] = {}
        for index, image in enumerate(_threaded(attempt, list(files), label="decoding images")):
            if isinstance(image, UndecodableError):
                broken |= image.reasons
            else:
                array[index] = image
        if broken:
            raise UndecodableError.of(broken, among=len(files))

    key = digest("decoded_images/1", source_digest("data/images.py"), str(image_px), *files.values())
    shape = (len(files), 3, image_px, image_px)
    return cached_array(cache / "images", key, shape=shape, dtype=np.uint8, fill=fill)


def decode(file: Path, *, image_px: int) -> UInt8[np.ndarray, "3 h w"]:
    """Decode one image file: upright by its EXIF tag, RGB, resized bicubically to a square.

    Raises:
        UndecodableError: the file is not an 8-bit image of one of ``FORMATS`` that Pillow can decode.
    """
    try:
        with Image.open(file, formats=FORMATS) as opened:
            if opened.mode.startswith(("I", "F")):
                raise ValueError(f"mode {opened.mode} is not 8-bit")
            opened.load()
            try:
                turn = _TURNS.get(opened.getexif().get(ExifTags.Base.Orientation, 1))
            except Exception:  # EXIF data that cannot be read: the image stays as it is, as viewers show it
                turn = None
            upright = opened if turn is None else opened.transpose(turn)
            mode = "RGBA" if "transparency" in upright.info else "RGB"
            rgb = upright.convert(mode).convert("RGB")
        square = rgb.resize((image_px, image_px), Image.Resampling.BICUBIC)
    except UnidentifiedImageError as error:
        raise UndecodableError.of({file: f"it is none of {', '.join(FORMATS)}, or damaged"}) from error
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        raise UndecodableError.of({file: cut(str(error)) or type(error).__name__}) from error
    return np.asarray(square, dtype=np.uint8).transpose(2, 0, 1)


def _threaded(function: Callable[[Path], T], files: Sequence[Path], *, label: str) -> Iterator[T]:
    """Apply ``function`` to every file in a few threads, and yield the results in order."""
    with ThreadPoolExecutor(THREADS) as pool, bar(label, total=len(files), unit="photos") as progress:
        for start in range(0, len(files), CHUNK):
            for result in pool.map(function, files[start : start + CHUNK]):
                yield result
                progress.advance()
