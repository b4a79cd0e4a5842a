"""SIGTERM ends a command as Ctrl-C does."""

import signal
import threading
from types import FrameType

_terminated = threading.Event()


def handle_sigterm() -> None:
    """Raise ``KeyboardInterrupt`` in the main thread at the first SIGTERM; later ones do not disturb the clean-up.

    ``scancel``, the eviction of a pod and the loss of a spot machine send SIGTERM. Ray replaces the handler of the
    driver whenever it starts or joins a cluster, so this is called again after that. Threads other than the main one
    cannot install a handler, and leave it as it is.
    """
    if threading.current_thread() is threading.main_thread() and not _terminated.is_set():
        signal.signal(signal.SIGTERM, _interrupt_once)


def was_terminated() -> bool:
    """Return whether a SIGTERM has come. Ray raises a ``KeyboardInterrupt`` of its own, so no subclass could tell."""
    return _terminated.is_set()


def _interrupt_once(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _terminated.set()
    raise KeyboardInterrupt
