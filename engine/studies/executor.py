"""Work that runs in order, so many at a time, beside other work that may leave it more room later."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Executor(Generic[T]):
    """Starts jobs in the order they were given, at most as many at once as there are lanes.

    Ray gives a free CPU to whatever is queued for it before it gives it to a trial's placement group. Jobs that would
    queue there therefore wait here, and leave the trials their share. A job is a call that waits in a thread of its
    own; threads that still wait do not keep the process alive.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._free = threading.Semaphore(number)

    def widen(self, number: int) -> None:
        """Add lanes until there are ``number``."""
        if number > self.number:
            self._free.release(number - self.number)
            self.number = number

    def start(self, job: Callable[[], T], *, after: "Future[T] | None" = None) -> "Future[T]":
        """Return the result of ``job`` to come; it takes a lane once ``after`` is done, and fails where that fails."""
        result: Future[T] = Future()
        threading.Thread(target=self._run, args=(job, after, result), daemon=True).start()
        return result

    def _run(self, job: Callable[[], T], after: "Future[T] | None", result: "Future[T]") -> None:
        try:
            if after is not None:
                after.result()
            with self._free:
                result.set_result(job())
        except BaseException as error:  # told to whoever waits for the result
            result.set_exception(error)
