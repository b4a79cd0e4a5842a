"""Write files so that they are either whole or absent: temporary name, fsync, rename; one upload to object stores."""

import errno
import fcntl
import hashlib
import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.io.storage import Location, put, read_whole

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_path(path: Location) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends without an error.

    An absent folder is made. After an error the temporary file is deleted and ``path`` is unchanged. For an object
    store, the temporary file is on this machine and is uploaded.

    Raises:
        OSError: the file cannot be written; the message names ``path`` if the disk is full.
    """
    if not isinstance(path, Path):
        with tempfile.TemporaryDirectory(prefix="vldd-") as folder:
            yield Path(folder) / path.name
            put(Path(folder) / path.name, path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        if error.errno in FULL:
            raise OSError(error.errno, f"{path}: there is no room left on the disk for this file") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def exclusive(path: Location) -> Iterator[None]:
    """Wait for the lock file ``path`` and hold it against other threads and processes.

    Object stores have no locks: nothing is held there, and writers have to tolerate each other.
    """
    if not isinstance(path, Path):
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Location, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Location) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: the file is not JSON.
    """
    try:
        return json.loads(read_whole(path).decode("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a JSON file, but it cannot be parsed ({error}).") from error


def digest(*parts: str | bytes) -> str:
    """Return 16 hexadecimal characters that identify ``parts`` with their order and borders."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()[:16]
