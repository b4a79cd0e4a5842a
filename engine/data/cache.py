"""Make arrays once, whole or in shards, and keep them as memory-mapped ``.npy`` files."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from engine.data.undecodable import all_named
from engine.io.files import FULL, atomic_path, digest, exclusive
from engine.io.progress import bar, heard
from engine.io.storage import Location, matching, read_whole, remove_tree

SHARD = 4096
"""Rows that are made at once: encoders of texts sort by length within them."""


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
        if found is not None:
            return found
        for left in folder.glob(f".{key}.npy.*"):  # of a process that was killed
            left.unlink()
        with atomic_path(path) as temporary:
            array = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
            size = temporary.stat().st_size
            try:  # to allocate the blocks: a full disk is then an error here, and no bus error while filling
                with temporary.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                if error.errno in FULL:
                    room = f"{path}: no room for a cached array of {size / 2**20:.0f} MiB"
                    raise OSError(error.errno, room) from error
            fill(array)
            array.flush()
            del array
        found = _open(path, shape, dtype)
    assert found is not None, path
    return found


def array_key(array: "np.ndarray | ShardedArray") -> str:
    """Return the key of a cached array, and a digest of the bytes of any other."""
    if isinstance(array, ShardedArray):
        return array.key
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


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardedArray:
    """An array that is made ``at_once`` rows at a time and then kept as ``<folder>/<key>.npy``; indexing opens it.

    ``make`` returns the rows from a first to before a last one. ``check`` sees the array before it is kept. A finished
    shard is a file in ``shards``, a folder that all nodes see: no other process makes it again.
    """

    folder: Path
    key: str
    shape: tuple[int, ...]
    dtype: DTypeLike
    label: str
    make: Callable[..., np.ndarray]
    check: Callable[[np.ndarray], None] | None = None
    shards: Location | None = None
    at_once: int = SHARD

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        rows: np.ndarray = self._opened[index]
        return rows

    @cached_property
    def _opened(self) -> np.ndarray:
        return self.open()

    @property
    def few(self) -> bool:
        """Whether the rows are so few that starting another process takes longer than making them."""
        return len(self) <= SHARD

    @property
    def here(self) -> bool:
        """Whether this machine has the whole array."""
        return _open(self.folder / f"{self.key}.npy", self.shape, np.dtype(self.dtype)) is not None

    @property
    def firsts(self) -> range:
        """The first row of each shard."""
        return range(0, self.shape[0], self.at_once)

    def missing(self) -> list[int]:
        """Return the first rows of the shards that are no files yet."""
        names = {file.name for file in matching(self._shard(0).parent, "*.npy")}
        return [first for first in self.firsts if self._shard(first).name not in names]

    def open(self, *, stays: bool = True) -> np.ndarray:
        """Return the array, read-only; where it is absent, shards that are no files are made here.

        The bar disappears at the end unless it ``stays``.

        Raises:
            OSError: the disk has no room for the array.
            UndecodableError: rows are of photos that cannot be decoded; all shards are tried.
        """

        def fill(array: np.ndarray) -> None:
            with (
                bar(self.label, total=len(array), unit="rows", stays=stays) as progress,
                all_named(among=len(array)) as part,
            ):
                for first in self.firsts:
                    with heard(progress.advance), part():
                        rows = self._rows(first)
                        array[first : first + len(rows)] = rows
                    progress.move(first + self.rows_from(first))
            if self.check is not None:
                self.check(array)

        return cached_array(self.folder, self.key, shape=self.shape, dtype=self.dtype, fill=fill)

    def write(self, first: int) -> int:
        """Make the shard that begins at a row, write its file, and return its number of rows."""
        rows = self._rows(first)
        with atomic_path(self._shard(first)) as temporary, temporary.open("wb") as file:
            np.save(file, rows)
        return len(rows)

    def publish(self) -> None:
        """Write the missing shards of the array that this machine has, for nodes that have another disk."""
        array = self.open()
        for first in self.missing():
            replace(self, make=lambda start, end: array[start:end]).write(first)

    def forget_shards(self) -> None:
        """Delete the files of the shards."""
        remove_tree(self._shard(0).parent)

    def rows_from(self, first: int) -> int:
        """Return the number of rows in the shard that begins at a row."""
        return min(self.at_once, self.shape[0] - first)

    def _shard(self, first: int) -> Location:
        assert self.shards is not None, self.label
        return self.shards / self.key / f"{first:010}.npy"

    def _rows(self, first: int) -> np.ndarray:
        """Return the rows of a shard from its file, or make them where that is absent or damaged."""
        shape = (self.rows_from(first), *self.shape[1:])
        if self.shards is not None:
            with suppress(FileNotFoundError, ValueError, EOFError):
                rows: np.ndarray = np.load(BytesIO(read_whole(self._shard(first))), allow_pickle=False)
                if rows.shape == shape and rows.dtype == np.dtype(self.dtype):
                    return rows
        return np.asarray(self.make(first, first + shape[0]), dtype=self.dtype)
