"""What workers raise, told as if it had been raised here."""

from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import RayActorError, RayError, RayTaskError, WorkerCrashedError

USER_ERRORS = (ValueError, FileNotFoundError)
"""Errors that the person at the terminal caused; repeating the work would give the same."""

DEATHS = (RayActorError, WorkerCrashedError)
"""Errors of a process that ended; repeating the work may help."""


def plain(error: BaseException) -> Exception:
    """Return what a worker raised: an error of the user's as it is, any other one as a RuntimeError of one sentence."""
    cause = _root(error)
    if isinstance(cause, USER_ERRORS) and not isinstance(cause, RayError):
        return cause
    text = (str(cause).strip() or "no message").splitlines()[0]
    if isinstance(cause, DEATHS):
        return RuntimeError(f"a worker process died, perhaps for want of memory, or its machine was lost: {text}")
    return RuntimeError(text if type(cause) is RuntimeError else f"{type(cause).__name__}: {text}")


def died(error: BaseException) -> bool:
    """Say whether an error is that of a process that ended."""
    return isinstance(_root(error), DEATHS)


def _root(error: BaseException) -> BaseException:
    """Return the innermost cause of errors that passed through several workers."""
    while isinstance(error, RayTaskError) and error.cause is not None:
        error = error.cause
    return error


@contextmanager
def own_sentences() -> Iterator[None]:
    """Raise ``plain`` errors in place of Ray's reports of them.

    Raises:
        ValueError: a worker found that the study cannot be run as it is configured.
        FileNotFoundError: a worker lacks a file.
        RuntimeError: a worker failed otherwise.
    """
    try:
        yield
    except RayError as error:
        raise plain(error) from error
