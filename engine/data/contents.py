"""Digests of files, remembered so that what has not changed is not read again."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from engine.files import digest, read_json, write_json

UNSETTLED = 2.0
"""Seconds after a change in which a file may change again within one tick of its file system's clock."""

Known = dict[str, tuple[int, int, str]]
"""Bytes, nanoseconds of the last change of the inode (which no program can set back), and digest, by path."""


def file_digests(
    files: Sequence[Path], *, cache: Path, read: Callable[[Sequence[Path]], Iterable[str]]
) -> Iterable[str]:
    """Return the digests of ``files``, asking ``read`` for those whose size or time of change is not remembered.

    What is remembered lies below ``cache``, one list for one sequence of paths, and is no more than a short cut: where
    it is absent or damaged, all files are read.
    """
    memory = cache / f"{digest('contents/1', *map(str, files))}.json"
    known, now = _remembered(memory), time.time()
    stamps = {str(file): _stamp(file) for file in files}
    changed = [file for file in files if known.get(str(file), ())[:2] != stamps[str(file)]]
    if changed:
        found = {path: known[path][2] for path in stamps if path in known}
        found |= zip(map(str, changed), read(changed), strict=True)
        known = {path: (*stamp, found[path]) for path, stamp in stamps.items()}
        settled = {path: entry for path, entry in known.items() if entry[1] / 1e9 < now - UNSETTLED}
        write_json(memory, settled)
    return (known[str(file)][2] for file in files)


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_ctime_ns


def _remembered(memory: Path) -> Known:
    """Return what an earlier call has written, or nothing."""
    try:
        return {path: (int(size), int(changed), str(told)) for path, (size, changed, told) in read_json(memory).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
