"""A study whose storage is an object store: disturbed and repeated, it ends as one on disks, and nothing is lost."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from werkzeug.serving import make_server

from engine.experts.lease import Lease
from engine.experts.store import ExpertStore
from engine.io.files import read_json
from engine.io.storage import Location, create, location
from engine.results.files import read_table
from engine.results.history import BEST_SET
from engine.studies.job import Job
from engine.synthetic.set import load_set
from tests.finished import Finished
from tests.forwarder import Address, Forwarder
from tests.runs import Recorded, recorded
from tests.studies.test_distill import scores
from tests.studies.test_resume import start, stop
from tests.tiny import tiny_job

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server() -> Iterator[Address]:
    """Serve S3 on loopback, one request at a time, since moto looks at conditions and writes in two steps."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app

    application, alone = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def answer(*request: Any) -> Any:
        with alone:
            return application(*request)

    served = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=MotoRequestHandler)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield served.server_address
    served.shutdown()
    thread.join()
    served.server_close()


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
    assert scores(read_table(story.job.folder)) == scores(finished.rows)
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
    assert scores(read_table(outage.job.folder)) == scores(finished.rows)
    ours, theirs = load_set(outage.job.folder / BEST_SET), load_set(finished.job.folder / BEST_SET)
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    assert [[(run.name, run.status) for run in kind] for kind in outage.after] == [
        [("tiny", "FINISHED")],
        [("trial_1", "FINISHED"), ("trial_2", "FINISHED")],
    ]


# Adds to a number in an object ten times, the unsafe way: two at once would lose some. Nobody looks a second time
# whether the lease is still his, so that what keeps the two apart is that only one of them creates it.
COUNTING = """
import sys, time
from engine.experts import lease
from engine.io.storage import location
folder = location(sys.argv[1])
lease.SETTLE_S = 0
for _ in range(10):
    with lease.Lease(folder / "lease.json", beat_s=0.05).held(on_wait=lambda holder: None, on_loss=sys.exit):
        number = int((folder / "number").read_text())
        time.sleep(0.01)
        (folder / "number").write_text(str(number + 1))
"""


def test_of_two_processes_that_race_for_a_lease_one_gets_it(bucket: str) -> None:
    folder = location(f"{bucket}/race")
    (folder / "number").write_text("0")
    both = [subprocess.Popen([sys.executable, "-c", COUNTING, str(folder)]) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert (folder / "number").read_text() == "20"
    assert files(folder) == ["number"]


def test_a_lease_that_cannot_be_read_is_nobodys_there_either(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.experts.lease.SETTLE_S", 0)
    folder = location(f"{bucket}/spoiled")
    (folder / "lease.json").write_text("{")
    with Lease(folder / "lease.json").held(on_wait=pytest.fail, on_loss=pytest.fail):
        assert read_json(folder / "lease.json")["pid"] == os.getpid()


def test_an_object_is_created_once(bucket: str) -> None:
    place = location(f"{bucket}/once/object")
    assert [create(place, b"one"), create(place, b"two")] == [True, False]
    assert place.read_bytes() == b"one"
