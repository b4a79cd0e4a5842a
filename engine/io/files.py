"""Write files so that they are either whole or absent: temporary name, fsync, rename; one upload to object stores."""

import codecs
import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from engine.io.sentences import shown
from engine.io.storage import Location, put, read_whole

MARKS = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32", codecs.BOM_UTF16_LE: "UTF-16",
         codecs.BOM_UTF16_BE: "UTF-16"}  # fmt: skip
"""Byte order marks; that of UTF-32 begins with that of UTF-16."""

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
    with _replacing(path, "file") as temporary:
        yield temporary


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes ``path`` when the block ends without an error.

    Raises:
        ValueError: ``path`` is a file, or a folder that is not empty.
        OSError: the folder cannot be made; the message names ``path`` if the disk is full.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise ValueError(f"{path}: there is such a file already, expected a new folder or an empty one.")
    if path.is_dir() and any(path.iterdir()):
        raise ValueError(f"{path}: there is something in it already, expected a new folder or an empty one.")
    with _replacing(path, "folder") as temporary:
        temporary.mkdir()
        yield temporary


@contextmanager
def _replacing(path: Path, kind: str) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; its content replaces ``path`` at the end, or is deleted on an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        if error.errno in FULL:
            raise OSError(error.errno, f"{path}: there is no room left on the disk for this {kind}") from error
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


@contextmanager
def exclusive(path: Location, *, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Wait for the lock file ``path`` and hold it against other threads and processes.

    With ``on_wait`` the holder writes its process, host and the time into the file, and one that has to wait calls
    ``on_wait`` once with these words. Object stores have no locks: nothing is held there, and writers have to tolerate
    each other.
    """
    if not isinstance(path, Path):
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait is not None:  # a holder that took the lock this moment has not written yet
                on_wait(path.read_text(encoding="utf-8").strip() or "another process")
            fcntl.flock(handle, fcntl.LOCK_EX)
        if on_wait is not None:
            since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
            handle.truncate(0)
            handle.write(f"process {os.getpid()} on {platform.node()} since {since}\n")
            handle.flush()
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
        return parsed(read_whole(path))
    except ValueError as error:
        raise ValueError(f"{path}: expected a JSON file, but it cannot be parsed ({error}).") from error


def parsed(data: bytes) -> Any:
    """Return the value of JSON in UTF-8.

    Raises:
        ValueError: it is not JSON, or nested too deeply, or an integer has thousands of digits; the reason alone.
    """
    text = decoded(data)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        raise ValueError("an integer in it has thousands of digits") from error


def decoded(data: bytes) -> str:
    """Return the text of bytes in UTF-8, without a byte order mark.

    Raises:
        ValueError: they are in another encoding, UTF-16, UTF-32 or that of the line that the reason shows.
    """
    for mark, name in MARKS.items():
        if data.startswith(mark):
            raise ValueError(f"it is encoded in {name}, expected UTF-8")
    if b"\0" in data[:2]:
        raise ValueError("it begins with a zero byte, as UTF-16 does, expected UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start)
        read = shown(data.split(b"\n")[line].decode("latin-1").strip())
        raise ValueError(f"line {line + 1} is not in UTF-8; in Latin-1 it is {read}") from error


def digest(*parts: str | bytes) -> str:
    """Return 16 hexadecimal characters that identify ``parts`` with their order and borders."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()[:16]
