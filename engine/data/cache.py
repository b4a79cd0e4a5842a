"""Make arrays once and keep them as memory-mapped ``.npy`` files; caption embeddings and token ids among them."""

import os
from collections.abc import Callable, Sequence
from mmap import mmap
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int32
from numpy.typing import DTypeLike
from tqdm import tqdm

from engine.determinism import encoding, unusual
from engine.io.files import FULL, atomic_path, digest, exclusive
from engine.models.text import TextEncoder, TrainableTextEncoder
from engine.recipes import Precision

Check = Callable[[Sequence[str], np.ndarray], None]
"""Raises an error for captions and their embeddings or token ids, before these are kept."""

CPU = torch.device("cpu")
CHUNK = 4096  # captions embedded at once: encoders sort by length within it


def cached_array(
    folder: Path, key: str, *, shape: tuple[int, ...], dtype: DTypeLike, fill: Callable[[np.ndarray], None]
) -> np.ndarray:
    """Return ``<folder>/<key>.npy`` as a read-only memory map, after making it if it is not there.

    ``fill`` receives a writable memory map of that shape and writes every element; the array is never held in memory as
    a whole. Of several processes that miss at the same time one makes the file, under a lock file that stays beside it,
    and the others wait for it. A file whose header or length disagrees is made again.

    Raises:
        OSError: the disk has no room for the array.
    """
    path, dtype = folder / f"{key}.npy", np.dtype(dtype)
    found = _open(path, shape, dtype)
    if found is not None:
        return found
    with exclusive(folder / f".{key}.lock"):
        found = _open(path, shape, dtype)  # another process may have made it while this one waited
        if found is None:
            with atomic_path(path) as temporary:
                array = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
                _reserve(temporary, path)
                fill(array)
                array.flush()
                del array
            found = _open(path, shape, dtype)
    assert found is not None, path
    return found


def array_key(array: np.ndarray) -> str:
    """Return the key of a cached array, and a digest of the bytes of any other."""
    if isinstance(array, np.memmap) and isinstance(array.base, mmap) and array.filename is not None:
        return Path(array.filename).stem
    return digest(array.tobytes())


def _open(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
    if not path.exists():
        return None
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):  # a truncated or foreign file
        return None
    return array if array.shape == shape and array.dtype == dtype else None


def _reserve(temporary: Path, path: Path) -> None:
    """Allocate the blocks of the sparse file: a full disk is then an error here, and no bus error while filling."""
    if not hasattr(os, "posix_fallocate"):
        return
    size = temporary.stat().st_size
    with temporary.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno in FULL:
                room = f"{path}: no room for a cached array of {size / 2**20:.0f} MiB"
                raise OSError(error.errno, room) from error


def caption_embeddings(
    encoder: TextEncoder,
    captions: Sequence[str],
    cache: Path,
    *,
    check: Check | None = None,
    precision: Precision = "fp32",
    device: torch.device = CPU,
) -> Float32[np.ndarray, "m dim"]:
    """Return the embeddings of ``captions``, in their order, as a read-only memory map below ``cache``.

    The file is keyed by ``encoder.key``, the captions and the precision; an encoder that is fitted must be fitted
    before. ``check`` sees them once, when they are made.
    """

    def fill(array: np.ndarray) -> None:
        with tqdm(total=len(captions), desc="embedding captions", disable=None) as bar:
            for start in range(0, len(captions), CHUNK):
                chunk = captions[start : start + CHUNK]
                with encoding(precision, device):
                    array[start : start + len(chunk)] = encoder.embed(chunk).numpy()
                bar.update(len(chunk))
        if check is not None:
            check(captions, array)

    key = digest("caption_embeddings/1", encoder.key, *captions, *unusual(precision))
    shape = (len(captions), encoder.dim)
    return cached_array(cache / "captions", key, shape=shape, dtype=np.float32, fill=fill)


def caption_tokens(
    encoder: TrainableTextEncoder, captions: Sequence[str], cache: Path, *, check: Check | None = None
) -> Int32[np.ndarray, "m n"]:
    """Return the token ids of ``captions``, -1 after their ends, as a read-only memory map below ``cache``.

    ``check`` sees them once, when they are made.
    """

    def fill(array: np.ndarray) -> None:
        for start in range(0, len(captions), CHUNK):
            chunk = captions[start : start + CHUNK]
            array[start : start + len(chunk)] = encoder.tokens(chunk)
        if check is not None:
            check(captions, array)

    key = digest("caption_tokens/1", encoder.key, *captions)
    shape = (len(captions), encoder.max_length)
    return cached_array(cache / "captions", key, shape=shape, dtype=np.int32, fill=fill)
