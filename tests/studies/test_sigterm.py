"""SIGTERM, as of ``scancel``, an eviction or a lost spot machine, ends a study as Ctrl-C does."""

import signal
from pathlib import Path

import psutil
import pytest

from tests.runs import recorded
from tests.studies.test_resume import checkpoints, start, stop
from tests.tiny import tiny_job

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def test_a_terminated_study_is_killed_in_mlflow_and_leaves_no_process(tmp_path: Path) -> None:
    job, children = tiny_job(tmp_path), list[psutil.Process]()
    process = start(tmp_path)

    def searching() -> bool:
        children[:] = psutil.Process(process.pid).children(recursive=True)
        return checkpoints(job) >= 1

    code, _, err = stop(process, signal.SIGTERM, searching)
    assert (code, err) == (143, "terminated; repeat the command to go on\n")
    studies, trials = recorded(job)
    assert [run.status for run in (*studies, *trials)] == ["KILLED"] * (1 + len(trials))
    assert trials
    assert studies[0].tags["commit"]
    assert checkpoints(job) >= 1  # from which the repeated command goes on, as tests/studies/test_resume.py shows
    _, alive = psutil.wait_procs(children, timeout=60)
    assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []
