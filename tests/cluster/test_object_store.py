"""A study whose storage is an object store: disturbed and repeated, it ends as one on disks, and nothing is lost."""

import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from engine.cluster.job import Job
from engine.cluster.trial import BEST_SET
from engine.experts.store import ExpertStore
from engine.storage import Location
from engine.synthetic.set import load_set
from engine.tracking import table
from tests.cluster.conftest import Finished
from tests.cluster.forwarder import Address, Forwarder
from tests.cluster.runs import Recorded, recorded
from tests.cluster.studies import tiny_job
from tests.cluster.test_distillation import scores
from tests.cluster.test_resume import start, stop

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def server() -> Iterator[Address]:
    """Serve S3 on loopback."""
    from moto.server import ThreadedMotoServer

    served = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    served.start()
    yield served.get_host_and_port()
    served.stop()


@pytest.fixture(scope="module")
def bucket(server: Address) -> Iterator[str]:
    """Return the URI of an empty bucket; processes started from now on find it."""
    host, port = server
    told = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem().mkdir("studies")
        yield "s3://studies"


@dataclass(frozen=True)
class Story:
    """The job, what its first command had left when it was killed, and how the second one ended."""

    job: Job
    here: Path
    left: list[str]
    ended: subprocess.CompletedProcess[str]


def files(folder: Location) -> list[str]:
    """Return the names of everything below a folder."""
    return sorted(path.name for path in folder.glob("**/*"))


@pytest.fixture(scope="module")
def story(bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Kill the job at the first checkpoint of a trial, and let it end."""
    here, storage = tmp_path_factory.mktemp("here"), f"{bucket}/runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        job = tiny_job(storage)
    first = start(storage, here)
    stop(first, signal.SIGKILL, lambda: any((job.folder / "tune/trial_1").glob("checkpoint_*/progress.json")))
    left = files(job.specification.expert_folder())
    return Story(job, here, left, ended(start(storage, here)))


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for a command."""
    try:
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_a_killed_job_in_an_object_store_ends_as_one_on_disks(story: Story, finished: Finished) -> None:
    assert story.ended.returncode == 0, story.ended.stderr
    assert story.job.key == finished.job.key
    assert scores(table.read(story.job.folder)) == scores(finished.rows)
    ours, theirs = load_set(story.job.folder / BEST_SET), load_set(finished.job.folder / BEST_SET)
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    assert f"synthetic set:  s3://studies/runs/studies/tiny-{story.job.key}/{BEST_SET}" in story.ended.stdout


def test_trajectories_lie_there_and_are_not_trained_again(story: Story, finished: Finished) -> None:
    folder = story.job.specification.expert_folder()
    store = ExpertStore(folder)
    assert store.index() == {0: (0, 1, 2), 1: (0, 1, 2)}
    assert [store.check(expert) for expert in store.experts()] == [None, None]
    assert set(story.left) - {"lease.json"} == set(files(folder))
    disk = ExpertStore(finished.job.specification.expert_folder())
    assert all(torch.equal(value, disk.load(1, 2)[name]) for name, value in store.load(1, 2).items())


def test_mlflow_and_caches_lie_on_disks_where_the_command_was_typed(story: Story, finished: Finished) -> None:
    assert {"mlflow.db", "artifacts"} <= {path.name for path in (story.here / "runs").iterdir()}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(story.here)
        ours = recorded(story.job)
    statuses = [[(run.name, run.status, run.artifacts) for run in kind] for kind in ours]
    theirs = [
        [(run.name, run.status, run.artifacts) for run in kind if run.status != "FAILED"]
        for kind in recorded(finished.job)
    ]
    assert statuses == theirs


@dataclass(frozen=True)
class Outage:
    """The job, how the command ended whose storage went away, what MLflow held then, and how the second one ended."""

    job: Job
    away: subprocess.CompletedProcess[str]
    runs: tuple[list[Recorded], list[Recorded]]
    ended: subprocess.CompletedProcess[str]
    after: tuple[list[Recorded], list[Recorded]]


@pytest.fixture(scope="module")
def outage(server: Address, bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Outage:
    """Take the storage away as a trial writes its second checkpoint, and repeat the command when it is back."""
    here, storage = tmp_path_factory.mktemp("away"), f"{bucket}/away"
    road = Forwarder(server, until=b"/trial_1/checkpoint_000001/")
    settings = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{road.port}", "AWS_MAX_ATTEMPTS": "1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        job = tiny_job(storage)
        away = ended(start(storage, here, **settings))
        assert road.closed.is_set(), away
        runs = recorded(job)
        road = Forwarder(server, port=road.port)
        again = ended(start(storage, here, **settings))
        road.close()
        return Outage(job, away, runs, again, recorded(job))


@pytest.mark.timeout(600)
def test_a_storage_that_goes_away_ends_the_command_with_one_sentence(outage: Outage) -> None:
    assert outage.away.returncode == 1, outage.away
    assert outage.away.stderr.startswith("error: storage: s3://studies/away failed (")
    assert outage.away.stderr.endswith("); repeat the command to go on when it is back\n")
    assert outage.away.stderr.count("\n") == 1
    assert "Traceback" not in outage.away.stdout


def test_a_trial_that_meets_it_says_why_it_goes_on_from_its_checkpoint(outage: Outage) -> None:
    [study], [trial] = outage.runs
    reason = trial.tags["interrupted_by"]
    assert re.match(r"[\w.]+Error: \S", reason)
    assert f"\ntrial_1 goes on from its last checkpoint after {reason}\n" in outage.away.stdout
    assert (study.status, trial.status) == ("FAILED", "KILLED")


def test_the_command_repeated_when_it_is_back_ends_as_an_undisturbed_one(outage: Outage, finished: Finished) -> None:
    assert outage.ended.returncode == 0, outage.ended.stderr
    assert outage.ended.stderr == ""
    assert scores(table.read(outage.job.folder)) == scores(finished.rows)
    ours, theirs = load_set(outage.job.folder / BEST_SET), load_set(finished.job.folder / BEST_SET)
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    assert [[(run.name, run.status) for run in kind] for kind in outage.after] == [
        [("tiny", "FINISHED")],
        [("trial_1", "FINISHED"), ("trial_2", "FINISHED")],
    ]
