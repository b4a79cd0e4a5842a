"""A growable executor of waiting calls."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Executor(Generic[T]):
    """Runs at most ``number`` jobs at once and starts them in the order of their submission.

    Ray gives a free CPU to queued tasks before it gives it to a trial's placement group. Tasks that would queue there
    therefore wait here, and leave the trials their share. Each running job has a thread of its own, which does not keep
    the process alive. ``concurrent.futures.ThreadPoolExecutor`` can neither grow nor leave its threads behind.
    ``none_waits`` is called whenever a job has ended and no other could start.
    """

    def __init__(self, number: int, none_waits: Callable[[], None] = lambda: None) -> None:
        self.number, self.none_waits = number, none_waits
        self._running = 0
        self._waiting: list[tuple[Callable[[], T], Future[T] | None, Future[T]]] = []  # call, after, result
        self._urgent: list[Future[T]] = []
        self._lock = threading.Lock()

    def widen(self, number: int) -> None:
        """Raise the number of jobs at once to ``number``; a smaller number changes nothing."""
        with self._lock:
            self.number = max(self.number, number)
        self._start_ready()

    def start(self, call: Callable[[], T], *, after: Future[T] | None = None, urgent: bool = False) -> Future[T]:
        """Return the future result of ``call``, which starts once ``after`` is done, and fails if that failed.

        Urgent jobs start before those that wait already.
        """
        result: Future[T] = Future()
        with self._lock:
            if urgent:
                self._urgent.append(result)
            self._waiting.append((call, after, result))
        if after is None:
            self._start_ready()
        else:
            after.add_done_callback(lambda _: self._start_ready())
        return result

    def _start_ready(self) -> None:
        with self._lock:
            ready = [job for job in self._waiting if job[1] is None or job[1].done()]
            ready.sort(key=lambda job: job[2] not in self._urgent)
            for job in ready[: self.number - self._running]:
                self._waiting.remove(job)
                self._running += 1
                threading.Thread(target=self._run, args=job, daemon=True).start()

    def _run(self, call: Callable[[], T], after: Future[T] | None, result: Future[T]) -> None:
        try:
            if after is not None:
                after.result()
            result.set_result(call())
        except BaseException as error:  # raised again by ``Future.result``
            result.set_exception(error)
        with self._lock:
            self._running -= 1
            last = not any(job[1] is None or job[1].done() for job in self._waiting)
        if last:
            self.none_waits()
        self._start_ready()
