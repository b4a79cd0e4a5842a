"""Two commands, each with a Ray of its own, that want the same experts at the same time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.io.files import read_json
from engine.studies.job import Job
from tests.faults.conftest import LONGER, Undisturbed, longer_job
from tests.faults.test_processes import checksums
from tests.tiny import words

pytestmark = pytest.mark.faults
TASK = Path(__file__).resolve().parents[2] / "tasks" / "train_experts.py"


def start(storage: Path) -> subprocess.Popen[str]:
    """Start the training of the longer study's experts with a private Ray."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {
        "PYTHONUNBUFFERED": "1"
    }
    return subprocess.Popen(
        [sys.executable, str(TASK), *words(storage, *LONGER), "--local"],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def wait_for(moment: Callable[[], bool], *processes: subprocess.Popen[str]) -> None:
    """Wait until something is so, as long as the processes live."""
    deadline = time.monotonic() + 240
    while not moment():
        assert time.monotonic() < deadline, "the moment never came"
        assert all(process.poll() is None for process in processes), [p.communicate() for p in processes]
        time.sleep(0.05)


def holder(job: Job) -> int:
    """Return the process that trains into the job's store, or 0."""
    path = job.specification.expert_folder() / "lease.json"
    return int(read_json(path)["pid"]) if path.exists() else 0


@pytest.fixture(scope="module")
def story(undisturbed: Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, str, list[int]]:
    """Start two commands, kill the one that trains, and return the job, what the other said, and who trained."""
    job = longer_job(tmp_path_factory.mktemp("two"))
    storage = job.specification.storage
    first = start(storage)
    wait_for(lambda: holder(job) > 0, first)
    holders = [holder(job)]
    os.kill(holders[0], signal.SIGSTOP)  # so that it has not finished when the other one comes
    second = start(storage)
    assert second.stdout is not None
    said = [second.stdout.readline(), second.stdout.readline()]
    os.kill(holders[0], signal.SIGCONT)
    first.kill()
    first.communicate()
    out, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    return job, "".join(said) + out, holders


def test_the_second_waits_for_the_first_and_takes_over_where_that_dies(
    story: tuple[Job, str, list[int]], undisturbed: Undisturbed
) -> None:
    job, said, holders = story
    assert f"These experts are being trained by process {holders[0]} on " in said
    assert checksums(job) == checksums(undisturbed.job)
    assert holder(job) == 0


def test_two_that_run_to_their_ends_train_each_epoch_once(undisturbed: Undisturbed, tmp_path: Path) -> None:
    job = longer_job(tmp_path)
    both = [start(tmp_path), start(tmp_path)]
    written: dict[Path, set[int]] = {}

    def ended() -> bool:
        for path in job.specification.expert_folder().glob("*/epoch_*"):
            written.setdefault(path, set()).add(path.stat().st_ino)
        return all(process.poll() is not None for process in both)

    try:
        wait_for(ended)
    finally:
        for process in both:
            process.kill()
    told = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert len(written) == 14
    assert {len(files) for files in written.values()} == {1}  # nothing was written twice
    assert checksums(job) == checksums(undisturbed.job)
