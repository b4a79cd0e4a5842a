"""Jobs start in the order of their submission, as many at once as the executor allows."""

import threading
import time

import pytest

from engine.studies.executor import Executor


def test_jobs_start_in_the_order_of_their_submission() -> None:
    for _ in range(30):
        executor, started = Executor[int](1), []

        def job(index: int, started: list[int] = started) -> int:
            started.append(index)
            time.sleep(0.0005)
            return index

        first = executor.start(lambda: job(0))
        rest = [executor.start(lambda index=index: job(index), after=first) for index in range(1, 20)]
        assert [one.result(10) for one in rest] == started[1:] == list(range(1, 20))


def test_it_grows_while_jobs_wait_and_never_runs_more() -> None:
    executor, free, running = Executor[None](1), threading.Semaphore(0), set[int]()
    most: list[int] = []

    def job(index: int) -> None:
        running.add(index)
        most.append(len(running))
        free.acquire()
        running.remove(index)

    jobs = [executor.start(lambda index=index: job(index)) for index in range(6)]
    deadline = time.monotonic() + 10
    while len(running) < 1 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert running == {0}
    executor.widen(3)
    executor.widen(2)
    while len(running) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert running == {0, 1, 2}
    free.release(6)
    assert [one.result(10) for one in jobs] == [None] * 6
    assert max(most) == 3


def test_a_job_waits_for_another_one_and_fails_with_it_while_later_ones_go_on() -> None:
    executor, held = Executor[int](2), threading.Event()

    def fail() -> int:
        held.wait(10)
        raise KeyError("k")

    first = executor.start(fail)
    second, third = executor.start(lambda: 2, after=first), executor.start(lambda: 3)
    assert third.result(10) == 3
    assert not second.done()
    held.set()
    with pytest.raises(KeyError, match="k"):
        second.result(10)
    assert executor.start(lambda: 4, after=third).result(10) == 4


def test_an_urgent_job_starts_before_those_that_wait() -> None:
    executor, held, started = Executor[None](1), threading.Event(), list[str]()
    first = executor.start(lambda: (held.wait(10), None)[1])
    rest = [executor.start(lambda name=name: started.append(name)) for name in ("a", "b")]
    rest += [executor.start(lambda name=name: started.append(name), urgent=True) for name in ("c", "d")]
    held.set()
    for job in (first, *rest):
        job.result(10)
    assert started == ["c", "d", "a", "b"]


def test_it_tells_when_no_job_waits_though_others_run() -> None:
    told = list[int]()
    executor, held = Executor[int](2, none_waits=lambda: told.append(len(told))), threading.Event()
    long = executor.start(lambda: held.wait(10) and 1)
    assert [executor.start(lambda n=n: n).result(10) for n in range(2)] == [0, 1]
    deadline = time.monotonic() + 10
    while len(told) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert told == [0, 1]
    held.set()
    long.result(10)
