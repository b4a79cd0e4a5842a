"""A job that is interrupted and then killed in the middle of its trials ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from engine.results.files import read_table
from engine.studies.job import Job
from tests.finished import Finished
from tests.runs import Recorded, recorded
from tests.studies.test_distill import scores
from tests.tiny import tiny_job, words

pytestmark = [pytest.mark.slow, pytest.mark.faults]
TASK = Path(__file__).resolve().parents[2] / "tasks" / "distill.py"


def heed_interrupts() -> None:
    """Take Ctrl-C as a terminal's processes do; those that a script has put in the background ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(storage: Path | str, here: Path | None = None, **settings: str) -> subprocess.Popen[str]:
    """Start the tiny study with a private Ray, in a session of its own, as if typed in the folder ``here``.

    ``settings`` are further variables of its environment.
    """
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | settings
    return subprocess.Popen(
        [sys.executable, str(TASK), *words(storage), "--local"],
        env=environment,
        cwd=here,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )


def stop(process: subprocess.Popen[str], signum: int, when: Callable[[], bool]) -> tuple[int, str, str]:
    """Send a signal once ``when`` holds; return the exit code and what was printed."""
    deadline = time.monotonic() + 150
    while not when():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.02)
    process.send_signal(signum)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def checkpoints(job: Job) -> int:
    """Return the number of the newest checkpoint of the first trial, from 1; 0 while there is none."""
    found = job.folder.glob("tune/trial_1/checkpoint_*/progress.json")
    return max((int(path.parent.name.rpartition("_")[2]) + 1 for path in found), default=0)


@dataclass(frozen=True)
class Story:
    """What was seen after the interrupt, after the kill, and at the end."""

    job: Job
    interrupted: tuple[int, str, str]
    interrupted_children: list[psutil.Process]
    after_interrupt: list[Recorded]
    killed: tuple[int, str, str]
    children: list[psutil.Process]
    ended: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Interrupt the job while experts are trained or read, kill it at a checkpoint, and let it end."""
    storage = tmp_path_factory.mktemp("resumed")
    job = tiny_job(storage)
    first = start(storage)
    at_work: list[psutil.Process] = []

    def configured() -> bool:
        at_work[:] = psutil.Process(first.pid).children(recursive=True)
        return (job.folder / "configuration.yaml").exists()

    interrupted = stop(first, signal.SIGINT, configured)
    studies, _ = recorded(job)
    process = start(storage)
    children: list[psutil.Process] = []

    def moment() -> bool:
        if checkpoints(job) >= 1:
            children.extend(psutil.Process(process.pid).children(recursive=True))
            return True
        return False

    killed = stop(process, signal.SIGKILL, moment)
    out, err = (again := start(storage)).communicate(timeout=200)
    ended = subprocess.CompletedProcess(again.args, again.returncode, out, err)
    return Story(job, interrupted, at_work, studies, killed, children, ended)


def test_an_interrupt_ends_the_run_as_killed(story: Story) -> None:
    code, out, err = story.interrupted
    # Ray may write a line of its own when a call that nobody waits for any more fails after that.
    assert (code, err.splitlines()[0]) == (130, "interrupted; repeat the command to go on")
    assert [line.partition(":")[0] for line in out.splitlines()[:2]] == ["Estimate", "Ray"]
    assert [run.status for run in story.after_interrupt] == ["KILLED"]


def test_nothing_of_an_interrupted_job_goes_on(story: Story) -> None:
    assert story.interrupted_children
    _, alive = psutil.wait_procs(story.interrupted_children, timeout=60)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_a_killed_job_ends_with_the_table_of_an_undisturbed_one(story: Story, finished: Finished) -> None:
    assert story.ended.returncode == 0, story.ended.stderr
    assert story.job.key == finished.job.key
    assert scores(read_table(story.job.folder)) == scores(finished.rows)


def test_a_job_in_a_pipe_is_quiet(story: Story) -> None:
    assert story.ended.stderr == ""
    lines = story.ended.stdout.splitlines()
    assert lines[0].startswith("Estimate: about ")
    assert lines[1].startswith("Ray: a private one on this machine (")
    assert lines[2] == "This study was begun before; what is done of it is kept (--fresh starts over)."
    assert lines[3] == ""
    assert lines[4].startswith("set ")


def test_mlflow_holds_each_run_once_and_finished(story: Story, finished: Finished) -> None:
    assert [(run.name, run.status, run.parent, run.artifacts) for runs in recorded(story.job) for run in runs] == [
        (run.name, run.status, run.parent, run.artifacts)
        for runs in recorded(finished.job)
        for run in runs
        if run.status != "FAILED"
    ]


def test_nothing_of_a_killed_job_goes_on(story: Story) -> None:
    assert story.killed[0] == -signal.SIGKILL
    assert story.children
    _, alive = psutil.wait_procs(story.children, timeout=90)  # Ray's two agents look for their cluster for a minute
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
