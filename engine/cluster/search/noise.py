"""Quiet, unwrapped errors and awaited uploads around ``tune.run``."""

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
"""Suffix of the names of Tune's upload threads, which Python takes from the function that they run."""

PATIENCE_S = 120.0


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress Tune's logging, which repeats tracebacks of handled errors, unless ``VLDD_TRACEBACK`` is 1."""
    loggers = [] if os.environ.get("VLDD_TRACEBACK") == "1" else [logging.getLogger(name) for name in _LOGGERS]
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
    """Raise the exception of a callback in place of Tune's error, whose message is that exception's traceback."""
    try:
        yield
    except TuneError as error:
        cause = error.__context__ or RuntimeError(last_line_of_traceback(str(error)))
    else:
        return
    raise cause


@contextmanager
def uploads_awaited(patience: float = PATIENCE_S) -> Iterator[None]:
    """Join Tune's upload threads at the end of the block, for at most ``patience`` seconds.

    An interpreter that exits while such a thread is in pyarrow aborts.
    """
    try:
        yield
    finally:
        deadline = time.monotonic() + patience
        for thread in threading.enumerate():
            if thread.name.endswith(_UPLOADING):
                thread.join(max(0.0, deadline - time.monotonic()))
