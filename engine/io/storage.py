"""Paths of results: a folder on disk, or a prefix in an object store that fsspec reaches."""

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from upath import UPath

from engine.io.patience import within

Location: TypeAlias = Path | UPath
"""A path on disks, or one in an object store; both have the methods of ``pathlib``."""

PATIENCE_S = 30.0

_PACKAGES = frozenset(
    {"adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "google", "pyarrow", "s3fs"}
)
"""Packages that reach object stores; their errors are seldom an OSError."""


class StorageError(OSError):
    """An object store does not answer or refuses a request; the message names it."""


def location(text: str, *, key: str = "storage") -> Location:
    """Return the absolute location of ``text``: a path, ``file://`` or any URI that fsspec knows; ``key`` holds it.

    Raises:
        ValueError: the protocol of the URI is not known, or its package is not installed.
    """
    if "://" not in text:
        return Path(text).expanduser().absolute()
    if text.startswith("file://"):
        return Path(text.removeprefix("file://")).absolute()
    try:
        place = UPath(text, use_listings_cache=False)  # others write there too
        _ = place.fs
    except (ImportError, ValueError, OSError) as error:
        raise ValueError(
            f"{key} is {text!r}, expected a path or a URI that can be opened ({_reason(error)})."
        ) from error
    return place


def on_disk(where: Location) -> bool:
    """Return whether ``where`` is a path of this machine's file system; shared folders are."""
    return isinstance(where, Path)


def matching(folder: Location, pattern: str) -> list[Location]:
    """Return the files and folders in ``folder`` that match a pattern, in no order."""
    return list(folder.glob(pattern))


def read_whole(where: Location) -> bytes:
    """Return the bytes of one file as one writer wrote them.

    The methods of ``pathlib`` ask an object store for the size first, and fail if the object is replaced in between.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: the store does not answer or refuses.
    """
    if isinstance(where, Path):
        return where.read_bytes()
    try:
        data: bytes = where.fs.cat_file(where.path)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise StorageError(f"{where}: it cannot be read ({_reason(error)})") from error
    return data


@contextmanager
def as_file(where: Location) -> Iterator[Path]:
    """Yield a file on this machine: ``where`` itself, or a temporary copy with its name."""
    if isinstance(where, Path):
        yield where
        return
    with tempfile.TemporaryDirectory(prefix="vldd-") as folder:
        copy = Path(folder) / where.name
        copy.write_bytes(where.read_bytes())
        yield copy


@contextmanager
def staged(folder: Location) -> Iterator[Path]:
    """Yield a folder for new files: ``folder`` itself, or a temporary one whose files are uploaded at the end."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="vldd-") as temporary:
        yield Path(temporary)
        for file in sorted(Path(temporary).iterdir()):
            put(file, folder / file.name)


def put(file: Path, where: Location) -> None:
    """Upload a file to an object store, which shows it once it is whole.

    Raises:
        StorageError: the upload failed; the message has the reason of the store's package.
    """
    assert not isinstance(where, Path)
    try:
        where.fs.put_file(str(file), where.path)
    except Exception as error:
        raise StorageError(f"{where}: the upload failed ({_reason(error)})") from error


def create(where: Location, data: bytes) -> bool:
    """Create an object, and return False if it exists already.

    Of several writers at once, only one creates it, if the store supports conditional writes (``If-None-Match`` of S3).
    In other stores, the object is overwritten.

    Raises:
        StorageError: the store does not answer or refuses.
    """
    assert not isinstance(where, Path)
    try:
        where.fs.pipe_file(where.path, data, mode="create")
    except FileExistsError:
        return False
    except Exception as error:
        if "ConditionalRequestConflict" in str(error):  # S3 while another request is under way
            return False
        if not isinstance(error, OSError) or error.errno != errno.ENOSYS:
            raise StorageError(f"{where}: the upload failed ({_reason(error)})") from error
        where.fs.pipe_file(where.path, data)
    return True


def check_writable(folder: Path, *, key: str) -> None:
    """Check that ``folder`` can be written to, or can be made, by a temporary folder there.

    Raises:
        ValueError: it cannot, or its path is not UTF-8; the message begins with ``key``.
    """
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    try:
        str(folder).encode("utf-8")
        with tempfile.TemporaryDirectory(prefix=".vldd-", dir=there):
            return
    except UnicodeEncodeError:
        reason = "its path is not UTF-8"
    except OSError as error:
        reason = f"{there} is no folder" if not there.is_dir() else f"{there}: {(error.strerror or '').lower()}"
    raise ValueError(f"{key} is {str(folder)!r}, expected a folder that can be written to ({reason}).")


def check_answers(storage: Location) -> None:
    """Write a small file into an object store and delete it; do nothing for a folder on disk.

    Raises:
        StorageError: the store does not answer or refuses.
    """
    if isinstance(storage, Path):
        return
    probe = storage / f".probe-{uuid.uuid4().hex[:8]}"

    def write_and_delete() -> None:
        probe.fs.pipe_file(probe.path, b"{}")
        probe.fs.rm_file(probe.path)

    try:
        within(PATIENCE_S, write_and_delete)
    except Exception as error:
        raise storage_error(storage, error) from error


def is_of_store(error: BaseException) -> bool:
    """Return whether an error, or the cause of an OSError, is of a package that reaches object stores.

    A FileNotFoundError is not.
    """
    if isinstance(error, FileNotFoundError):
        return False
    raised = [error, error.__cause__] if isinstance(error, OSError) else [error]
    return any(type(one).__module__.partition(".")[0] in _PACKAGES for one in raised)


def storage_error(storage: Location, error: BaseException) -> StorageError:
    """Return an error of a package that reaches object stores as one sentence that names the storage."""
    return StorageError(f"storage: {storage} failed ({_reason(error)})")


def _reason(error: BaseException) -> str:
    """Return the message of an error on one line."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def remove_tree(folder: Location) -> None:
    """Delete a folder and everything in it; do nothing if it is absent."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.exists():
        folder.fs.rm(folder.path, recursive=True)
