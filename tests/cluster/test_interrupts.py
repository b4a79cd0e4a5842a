"""Ctrl-C reaches who asks for it, even where what ran as it came has swallowed it."""

import os
import signal
import threading
from contextlib import suppress

import pytest

from engine.cluster.interrupts import insistent


def interrupted() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(1)


def test_an_interrupt_that_was_swallowed_is_raised_when_asked_for() -> None:
    with insistent() as ask:
        ask()
        with suppress(KeyboardInterrupt):
            interrupted()
        with pytest.raises(KeyboardInterrupt):
            ask()


def test_an_interrupt_is_raised_at_once_and_the_handler_goes_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), insistent():
        interrupted()
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_hears_of_none() -> None:
    asked: list[bool] = []

    def in_thread() -> None:
        with insistent() as ask:
            ask()
            asked.append(True)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert asked == [True]
