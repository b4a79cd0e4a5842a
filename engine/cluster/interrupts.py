"""Ctrl-C that is not lost: one that comes while Ray's own code runs has been seen to vanish there."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def insistent() -> Iterator[Callable[[], None]]:
    """Yield a function that raises ``KeyboardInterrupt`` where this block has had a Ctrl-C; the signal itself does too.

    Other threads than the main one hear of no signals; there it never raises.
    """
    interrupted = threading.Event()

    def ask() -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield ask
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield ask
    finally:
        signal.signal(signal.SIGINT, before)
