"""What workers, and the packages that reach object stores, raise, told as if it had been raised here."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import RayActorError, RayError, RayTaskError, WorkerCrashedError

from engine.io.storage import Location, StorageError, is_of_store, on_disk, storage_error

USER_ERRORS = (ValueError, FileNotFoundError)
"""Errors that the person at the terminal caused; repeating the work would give the same."""

DEATHS = (RayActorError, WorkerCrashedError)
"""Errors of a process that ended; repeating the work may help."""


def plain(error: BaseException, storage: Location | None = None) -> Exception:
    """Return what a worker raised: an error of the user's or of the storage as it is, any other one as a RuntimeError.

    All are one sentence. Where ``storage`` is given, an error of a package that reaches it becomes one of the storage.
    """
    cause = _root(error)
    if isinstance(cause, (*USER_ERRORS, StorageError)) and not isinstance(cause, RayError):
        return cause
    if storage is not None and _is_of(storage, cause):
        return storage_error(storage, cause)
    if isinstance(cause, RayActorError) and cause.actor_init_failed:
        return RuntimeError(last_words(str(cause)))
    text = (str(cause).strip() or "no message").splitlines()[0]
    if isinstance(cause, DEATHS):
        return RuntimeError(f"a worker process died, perhaps for want of memory, or its machine was lost: {text}")
    return RuntimeError(text if type(cause) is RuntimeError else f"{type(cause).__name__}: {text}")


def died(error: BaseException) -> bool:
    """Say whether an error is that of a process that ended, other than by an error as it was set up."""
    cause = _root(error)
    return isinstance(cause, DEATHS) and not getattr(cause, "actor_init_failed", False)


def last_words(traceback: str) -> str:
    """Return the type and the message at the end of a traceback's text, on one line; else the text's last line."""
    lines = traceback.strip().splitlines() or ["no message"]
    begin = max((number for number, line in enumerate(lines) if _TYPE.match(line)), default=len(lines) - 1)
    return " ".join(" ".join(lines[begin:]).split())


_TYPE = re.compile(r"[A-Za-z_][\w.]*: ")


def _root(error: BaseException) -> BaseException:
    """Return the innermost cause of errors that passed through several workers."""
    while isinstance(error, RayTaskError) and error.cause is not None:
        error = error.cause
    return error


@contextmanager
def own_sentences(storage: Location | None = None) -> Iterator[None]:
    """Raise ``plain`` errors in place of Ray's reports of them, and of what packages raise that reach ``storage``.

    Raises:
        ValueError: a worker found that the study cannot be run as it is configured.
        FileNotFoundError: a worker lacks a file.
        StorageError: the storage is away, or refuses.
        RuntimeError: a worker failed otherwise.
    """
    try:
        yield
    except RayError as error:
        raise plain(error, storage) from error
    except Exception as error:
        if storage is not None and _is_of(storage, error):
            raise storage_error(storage, error) from error
        raise


def _is_of(storage: Location, error: BaseException) -> bool:
    """Say whether an error is one of the packages that reach ``storage``, and not yet told as such."""
    return not on_disk(storage) and not isinstance(error, StorageError) and is_of_store(error)
