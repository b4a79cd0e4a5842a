"""A growable executor of waiting calls."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Job(Generic[T]):
    call: Callable[[], T]
    after: Future[T] | None
    result: Future[T] = field(default_factory=Future)


class Executor(Generic[T]):
    """Runs at most ``number`` jobs at once and starts them in the order of their submission.

    Ray gives a free CPU to queued tasks before it gives it to a trial's placement group. Tasks that would queue there
    therefore wait here, and leave the trials their share. Each running job has a thread of its own, which does not keep
    the process alive. ``concurrent.futures.ThreadPoolExecutor`` can neither grow nor leave its threads behind.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._running = 0
        self._waiting: list[_Job[T]] = []
        self._lock = threading.Lock()

    def widen(self, number: int) -> None:
        """Raise the number of jobs at once to ``number``; a smaller number changes nothing."""
        with self._lock:
            self.number = max(self.number, number)
        self._start_ready()

    def start(self, call: Callable[[], T], *, after: Future[T] | None = None) -> Future[T]:
        """Return the future result of ``call``, which starts once ``after`` is done, and fails if that failed."""
        job = _Job(call, after)
        with self._lock:
            self._waiting.append(job)
        if after is None:
            self._start_ready()
        else:
            after.add_done_callback(lambda _: self._start_ready())
        return job.result

    def _start_ready(self) -> None:
        with self._lock:
            ready = [job for job in self._waiting if job.after is None or job.after.done()]
            for job in ready[: self.number - self._running]:
                self._waiting.remove(job)
                self._running += 1
                threading.Thread(target=self._run, args=(job,), daemon=True).start()

    def _run(self, job: _Job[T]) -> None:
        try:
            if job.after is not None:
                job.after.result()
            job.result.set_result(job.call())
        except BaseException as error:  # raised again by ``Future.result``
            job.result.set_exception(error)
        with self._lock:
            self._running -= 1
        self._start_ready()
