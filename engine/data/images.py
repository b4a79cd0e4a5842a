"""Decode image files into uint8 arrays."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import PIL
from jaxtyping import UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from engine.data.cache import ShardedArray
from engine.data.undecodable import UndecodableError, all_named
from engine.io.files import digest
from engine.io.progress import bar, tell
from engine.io.sentences import cut
from engine.provenance import source_digest

T = TypeVar("T")

THREADS = min(8, len(os.sched_getaffinity(0)))
CHUNK = 64  # files handed to the threads at once, so that decoded images do not pile up in memory
SHARD = 512
"""Photos that are decoded at once, in about a second."""

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


def contents(files: Sequence[Path]) -> Iterator[str]:
    """Yield the digest of the bytes of every file."""
    with bar("reading images", total=len(files), unit="photos") as progress:
        for content in _threaded(lambda file: digest(file.read_bytes()), files, threads=THREADS):
            yield content
            progress.advance()


def images_key(digests: Iterable[str], image_px: int) -> str:
    """Return the key of decoded photos with these contents in this order.

    So a renamed or touched file is not decoded again, and a changed one is; another version of this code or of Pillow
    decodes all again.
    """
    return digest("decoded_images/2", source_digest("data/images.py"), PIL.__version__, str(image_px), *digests)


def decode_all(arrays: Sequence[ShardedArray]) -> None:
    """Decode the photos of several arrays that are absent.

    Raises:
        UndecodableError: files are not images that can be decoded; all of all arrays are tried.
    """
    with all_named(among=sum(map(len, arrays))) as part:
        for array in arrays:
            with part():
                array.open()


def decode_rows(
    folder: Path, names: Sequence[str], image_px: int, first: int, last: int, *, threads: int = THREADS
) -> UInt8[np.ndarray, "n 3 h w"]:
    """Decode the photos ``names`` in ``folder`` from ``first`` to before ``last``, and tell the bar of each.

    Raises:
        UndecodableError: files are not images that can be decoded; all of them are tried.
    """

    def attempt(file: Path) -> UInt8[np.ndarray, "3 h w"] | UndecodableError:
        try:
            return decode(file, image_px=image_px)
        except UndecodableError as error:
            return error

    rows = np.empty((last - first, 3, image_px, image_px), dtype=np.uint8)
    with all_named(among=last - first) as part:
        for row, image in enumerate(_threaded(attempt, [folder / name for name in names[first:last]], threads=threads)):
            tell(1)
            with part():
                if isinstance(image, UndecodableError):
                    raise image
                rows[row] = image
    return rows


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


def _threaded(function: Callable[[Path], T], files: Sequence[Path], *, threads: int) -> Iterator[T]:
    """Apply ``function`` to every file in a few threads, and yield the results in order."""
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(files), CHUNK):
            yield from pool.map(function, files[start : start + CHUNK])
