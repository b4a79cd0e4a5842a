"""Turn exceptions of Ray workers and storage backends into one-sentence errors."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from ray.exceptions import RayActorError, RayError, RayTaskError, WorkerCrashedError

from engine.io.storage import Location, StorageError, is_of_store, on_disk, storage_error

USER_ERRORS = (ValueError, FileNotFoundError)
"""Errors that the user caused; repeating the work would raise them again."""

DEATHS = (RayActorError, WorkerCrashedError)
"""Errors of a process that ended; repeating the work may help."""


@contextmanager
def one_sentence_errors(storage: Location | None = None) -> Iterator[None]:
    """Raise the errors of workers, and of packages that reach ``storage``, as one sentence each.

    Raises:
        ValueError: a worker found that the study cannot be run as it is configured, or its GPU was too small for it.
        FileNotFoundError: a worker lacks a file.
        StorageError: the storage is away, or refuses.
        RuntimeError: a worker failed otherwise.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, RayError | torch.OutOfMemoryError):
            raise as_plain_error(error, storage) from error
        if storage is not None and _is_of(storage, error):
            raise storage_error(storage, error) from error
        raise


def as_plain_error(error: BaseException, storage: Location | None = None) -> Exception:
    """Return an error of the user or the storage as the worker raised it, and any other one as a RuntimeError.

    With ``storage``, an error of a package that reaches it becomes a StorageError. All messages are one sentence.
    """
    cause = _root(error)
    if isinstance(cause, (*USER_ERRORS, StorageError)) and not isinstance(cause, RayError):
        return cause
    if isinstance(cause, torch.OutOfMemoryError):
        detail = "; ".join(str(cause).split(". ")[1:3]) or str(cause)
        return ValueError(
            f"resources: a GPU ran out of memory ({detail}), expected fewer pairs, smaller batches or a larger share "
            "of a GPU for this task."
        )
    if storage is not None and _is_of(storage, cause):
        return storage_error(storage, cause)
    if isinstance(cause, RayActorError) and cause.actor_init_failed:
        return RuntimeError(last_line_of_traceback(str(cause)))
    text = (str(cause).strip() or "no message").splitlines()[0]
    if isinstance(cause, DEATHS):
        return RuntimeError(f"a worker process died, perhaps for want of memory, or its machine was lost: {text}")
    return RuntimeError(text if type(cause) is RuntimeError else f"{type(cause).__name__}: {text}")


def died(error: BaseException) -> bool:
    """Return whether an error reports that a process ended, except one that failed in its constructor."""
    cause = _root(error)
    return isinstance(cause, DEATHS) and not getattr(cause, "actor_init_failed", False)


def last_line_of_traceback(text: str) -> str:
    """Return the last type and message of a traceback on one line; without any type, the last line of ``text``."""
    lines = text.strip().splitlines() or ["no message"]
    types = [number for number, line in enumerate(lines) if re.match(r"[A-Za-z_][\w.]*: ", line)]
    return " ".join(" ".join(lines[types[-1] if types else -1 :]).split())


def _root(error: BaseException) -> BaseException:
    """Return the innermost cause of an error that passed through several workers."""
    while isinstance(error, RayTaskError) and error.cause is not None:
        error = error.cause
    return error


def _is_of(storage: Location, error: BaseException) -> bool:
    """Return whether an error is of a package that reaches the object store ``storage``, and no StorageError yet."""
    return not on_disk(storage) and not isinstance(error, StorageError) and is_of_store(error)
