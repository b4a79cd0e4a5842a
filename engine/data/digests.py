"""Digests of files, remembered so that unchanged files are not read again."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.io.files import digest, read_json, write_json

UNSETTLED = 2.0
"""Seconds after a change in which a file may change again within one tick of its file system's clock."""


@contextmanager
def file_digests(
    files: Sequence[Path], *, cache: Path, read: Callable[[Sequence[Path]], Iterable[str]]
) -> Iterator[list[str]]:
    """Yield the digests of ``files``, calling ``read`` for those whose size or time of change is not remembered.

    They are remembered below ``cache`` when the block ends without an error, one list for one sequence of paths.
    The list is only a shortcut: where it is absent or damaged, all files are read.
    """
    memory = cache / f"{digest('contents/1', *map(str, files))}.json"
    try:
        known = {path: (int(size), int(ctime), str(text)) for path, (size, ctime, text) in read_json(memory).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        known = {}
    now, statuses = time.time(), {str(file): file.stat() for file in files}
    # no program can set back the time of the last change of an inode
    stamps = {path: (status.st_size, status.st_ctime_ns) for path, status in statuses.items()}
    changed = [file for file in files if known.get(str(file), ())[:2] != stamps[str(file)]]
    digests = {path: known[path][2] for path in stamps if path in known}
    digests |= zip(map(str, changed), read(changed), strict=True)
    yield [digests[str(file)] for file in files]
    if changed:
        settled = {path: stamp for path, stamp in stamps.items() if stamp[1] / 1e9 < now - UNSETTLED}
        write_json(memory, {path: (*stamp, digests[path]) for path, stamp in settled.items()})
