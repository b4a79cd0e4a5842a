"""Tune where something goes wrong: its log kept off the terminal, its wrapped errors, and its uploads at the end."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ray.tune import TuneError

from engine.cluster.errors import last_line_of_traceback

_LOGGERS = ("ray.air", "ray.train", "ray.tune")
_UPLOADING = "(entrypoint)"
"""With this end the names of the threads in which Tune uploads; they take that of the function that they run."""

PATIENCE_S = 120.0


@contextmanager
def quiet() -> Iterator[None]:
    """Keep off the terminal what Tune logs, tracebacks of what it bears or raises, unless ``VLDD_TRACEBACK`` is 1."""
    if os.environ.get("VLDD_TRACEBACK") == "1":
        yield
        return
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def unwrapped() -> Iterator[None]:
    """Raise what a callback raised in place of Tune's error of it, whose text is the traceback."""
    try:
        yield
    except TuneError as error:
        cause = error.__context__ or RuntimeError(last_line_of_traceback(str(error)))
    else:
        return
    raise cause


@contextmanager
def uploads_awaited(patience: float = PATIENCE_S) -> Iterator[None]:
    """Wait at the end of the block, up to ``patience`` seconds, for what Tune uploads in threads of its own.

    An interpreter that exits while such a thread is in pyarrow aborts.
    """
    try:
        yield
    finally:
        deadline = time.monotonic() + patience
        for thread in threading.enumerate():
            if thread.name.endswith(_UPLOADING):
                thread.join(max(0.0, deadline - time.monotonic()))
