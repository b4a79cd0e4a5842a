"""A study whose storage is an object store: killed and repeated, it ends as one on disks does, and nothing is lost."""

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
from tests.cluster.runs import recorded
from tests.cluster.studies import tiny_job
from tests.cluster.test_distillation import scores
from tests.cluster.test_resume import start, stop

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Serve S3 on loopback, and return the URI of an empty bucket; processes started from now on find it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
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
    server.stop()


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
    again = start(storage, here)
    try:
        out, err = again.communicate(timeout=240)
    finally:
        again.kill()
    return Story(job, here, left, subprocess.CompletedProcess(again.args, again.returncode, out, err))


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
