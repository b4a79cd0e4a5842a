"""Processes on shares of GPUs serve one call after another, and end when no call waits."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ray

from engine.cluster.kept import Kept
from engine.studies.executor import Executor

HALF = {"num_cpus": 0.5, "num_gpus": 0}


def pid() -> int:
    return os.getpid()


def failing() -> int:
    raise MemoryError(f"in {os.getpid()}")


def together(folder: Path, name: str) -> int:
    """Wait for the other call, so that both run at once."""
    (folder / name).touch()
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return os.getpid()


def free_cpus(expected: float) -> bool:
    deadline = time.monotonic() + 60
    while (found := ray.available_resources().get("CPU", 0)) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    return found == expected


@pytest.mark.usefixtures("ray_local")
def test_a_process_is_used_again_until_it_is_released() -> None:
    assert free_cpus(2)
    kept = Kept(HALF)
    first = kept.call(pid)
    assert first != os.getpid()
    assert [kept.call(pid) for _ in range(3)] == [first] * 3
    assert free_cpus(1.5)
    kept.release()
    assert free_cpus(2)
    assert kept.call(pid) != first
    kept.release()


@pytest.mark.usefixtures("ray_local")
def test_calls_at_once_have_processes_of_their_own(tmp_path: Path) -> None:
    kept = Kept(HALF)
    with ThreadPoolExecutor(2) as threads:
        both = {one.result() for one in [threads.submit(kept.call, together, tmp_path, name) for name in "ab"]}
    assert len(both) == 2
    assert kept.call(pid) in both
    kept.release()


@pytest.mark.usefixtures("ray_local")
def test_a_process_whose_call_has_failed_is_not_used_again() -> None:
    kept = Kept(HALF)
    first = kept.call(pid)
    with pytest.raises(MemoryError, match=f"in {first}"):
        kept.call(failing)
    assert kept.call(pid) != first
    kept.release()


@pytest.mark.usefixtures("ray_local")
def test_processes_end_when_no_job_waits_for_one() -> None:
    assert free_cpus(2)
    kept = Kept(HALF)
    executor = Executor[int](1, none_waits=kept.release)
    jobs = [executor.start(lambda: kept.call(pid)) for _ in range(4)]
    assert len({job.result(60) for job in jobs}) == 1
    assert free_cpus(2)
