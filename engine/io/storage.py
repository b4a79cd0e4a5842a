"""Where results lie: a folder, or a place in an object store that fsspec reaches, as paths of one kind of methods."""

import errno
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from upath import UPath

Location: TypeAlias = Path | UPath
"""A path on disks, or one in an object store; both have the methods of ``pathlib``."""

_PACKAGES = frozenset(
    {"adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "google", "pyarrow", "s3fs"}
)
"""What stands between us and an object store; what these raise is seldom an OSError."""


class StorageError(OSError):
    """An object store that is away, or that refuses; the sentence names it."""


def location(text: str, *, key: str = "storage") -> Location:
    """Return the absolute place that ``key`` names: a path, ``file://`` or any URI that fsspec knows.

    Raises:
        ValueError: the URI's kind is not known, or the package that it needs is not installed.
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
    """Tell whether ``where`` is a path of this machine's file system, a shared folder included."""
    return isinstance(where, Path)


def matching(folder: Location, pattern: str) -> list[Location]:
    """Return what lies in a folder under names of a pattern, in no order."""
    return list(folder.glob(pattern))


def read_whole(where: Location) -> bytes:
    """Return the bytes of one file, as one writer left them.

    The methods of ``pathlib`` ask an object store for the size first, and fail where the object is replaced before they
    read it.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: the store is away, or refuses.
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
    """Yield a file as one that can be opened: itself, or a copy of the same name that is gone afterwards."""
    if isinstance(where, Path):
        yield where
        return
    with tempfile.TemporaryDirectory(prefix="vldd-") as folder:
        copy = Path(folder) / where.name
        copy.write_bytes(where.read_bytes())
        yield copy


@contextmanager
def staged(folder: Location) -> Iterator[Path]:
    """Yield a folder to write files into: itself, or one whose files are put there when the block ends."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="vldd-") as temporary:
        yield Path(temporary)
        for file in sorted(Path(temporary).iterdir()):
            put(file, folder / file.name)


def put(file: Path, where: Location) -> None:
    """Upload a file; object stores show it when it is whole.

    Raises:
        StorageError: it cannot be uploaded, for whatever reason the store's own package gives.
    """
    assert not isinstance(where, Path)
    try:
        where.fs.put_file(str(file), where.path)
    except Exception as error:
        raise StorageError(f"{where}: the upload failed ({_reason(error)})") from error


def create(where: Location, data: bytes) -> bool:
    """Put bytes into an object store where nothing lies yet, and say whether they are there now.

    Of several that try at once, one does it, where the store writes on a condition (S3's ``If-None-Match``). One that
    does not know of conditions is just written to.

    Raises:
        StorageError: the store is away, or refuses.
    """
    assert not isinstance(where, Path)
    try:
        where.fs.pipe_file(where.path, data, mode="create")
    except FileExistsError:
        return False
    except Exception as error:
        if "ConditionalRequestConflict" in str(error):  # S3's word where another request is still under way
            return False
        if not isinstance(error, OSError) or error.errno != errno.ENOSYS:
            raise StorageError(f"{where}: the upload failed ({_reason(error)})") from error
        where.fs.pipe_file(where.path, data)
    return True


def check_answers(storage: Location) -> None:
    """Write a small file into an object store and delete it again; of a folder on disks, nothing is asked.

    Raises:
        StorageError: the store is away, or refuses.
    """
    if isinstance(storage, Path):
        return
    probe = storage / f".probe-{uuid.uuid4().hex[:8]}"
    try:
        probe.fs.pipe_file(probe.path, b"{}")
        probe.fs.rm_file(probe.path)
    except Exception as error:
        raise storage_error(storage, error) from error


def is_of_store(error: BaseException) -> bool:
    """Say whether a package that reaches object stores raised an error, or made an OSError of it.

    That a file is not there is no such error.
    """
    if isinstance(error, FileNotFoundError):
        return False
    raised = [error, error.__cause__] if isinstance(error, OSError) else [error]
    return any(type(one).__module__.partition(".")[0] in _PACKAGES for one in raised)


def storage_error(storage: Location, error: BaseException) -> StorageError:
    """Return what a package that reaches object stores had to say, as one sentence that names the storage."""
    return StorageError(f"storage: {storage} failed ({_reason(error)})")


def _reason(error: BaseException) -> str:
    """Return the message of an error on one line."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def remove_tree(folder: Location) -> None:
    """Delete a folder and everything in it, if it is there."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.exists():
        folder.fs.rm(folder.path, recursive=True)
