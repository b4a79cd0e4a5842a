"""Whatever is killed while a study runs, the study ends with the numbers of one that nothing disturbed."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from engine.cluster.errors import one_sentence_errors
from engine.cluster.experts.registry import RemoteSource, expert_epochs, get_registry
from engine.cluster.experts.train import train_experts
from engine.cluster.nodes import check_nodes
from engine.cluster.runtime import Cluster
from engine.experts.store import ExpertStore
from engine.io.files import read_json
from engine.results.history import BEST_SET
from engine.studies.distill import distill
from engine.studies.job import Job
from engine.synthetic.set import load_set
from tests.faults.conftest import Nodes, Saboteur, Undisturbed, gone, longer_job
from tests.runs import recorded
from tests.studies.test_distill import scores

pytestmark = pytest.mark.faults
TRIAL = "ResourceTrainable"
"""What Tune calls the class that it makes of a trainable with resources."""


@pytest.fixture(autouse=True)
def complete(nodes: Nodes) -> None:
    """Replace the nodes that the test before has killed."""
    nodes.complete()


CLUSTER = Cluster(joined=True, cpus=4, gpus=0, object_store_bytes=100 * 2**20)


def checksums(job: Job) -> list[Any]:
    """Return the checksums of all snapshots, which are those of their bytes."""
    folder = job.specification.expert_folder()
    for expert in ExpertStore(folder).experts():
        ExpertStore(folder).check(expert)
    return [read_json(path)["snapshots"] for path in sorted(folder.glob("expert_*/manifest.json"))]


def synthetic(job: Job) -> dict[str, torch.Tensor]:
    """Return everything that the study's synthetic set holds."""
    return dict(load_set(job.folder / BEST_SET).state_dict())


def assert_as_undisturbed(job: Job, undisturbed: Undisturbed, rows: list[Any]) -> None:
    """Compare the experts and the set bitwise, the table number by number, and the runs in MLflow."""
    assert job.key == undisturbed.job.key
    assert checksums(job) == checksums(undisturbed.job)
    ours, theirs = synthetic(job), synthetic(undisturbed.job)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert scores(rows) == scores(undisturbed.rows)
    runs = [[[(run.name, run.status) for run in kind] for kind in recorded(one)] for one in (job, undisturbed.job)]
    assert runs[0] == runs[1]
    assert [len(kind) for kind in runs[0]] == [1, 1]


def in_mid_epoch(job: Job) -> Callable[[], bool]:
    """Return a question: is an expert between two epochs, after its first?"""
    registry = get_registry(job.specification.expert_folder())

    def asked() -> bool:
        done: dict[int, float] = ray.get(registry.progress.remote())[0]
        return any(epochs > 1 and 0.2 < epochs % 1 < 0.8 for epochs in done.values())

    return asked


def checkpoints(job: Job) -> int:
    """Return how many checkpoints of the trial are whole."""
    return len(list(job.folder.glob("tune/trial_*/checkpoint_*/progress.json")))


def test_every_node_answers_before_work_starts(nodes: Nodes, tmp_path: Path) -> None:
    check_nodes(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_expert_killed_in_mid_epoch(nodes: Nodes, undisturbed: Undisturbed, tmp_path: Path) -> None:
    job = longer_job(tmp_path)
    before: list[int] = []

    def deed() -> None:
        before.extend(path.stat().st_ino for path in sorted(tmp_path.rglob("epoch_0001.safetensors")))
        assert gone(nodes.running("ExpertTrainer")[0])

    with Saboteur(in_mid_epoch(job), deed):
        train_experts(job.specification, count=job.expert_count, epochs=job.expert_epochs, cluster=CLUSTER)
    assert checksums(job) == checksums(undisturbed.job)
    after = [path.stat().st_ino for path in sorted(tmp_path.rglob("epoch_0001.safetensors"))]
    assert set(before) <= set(after)  # it went on from its last epoch, and did not begin again


def test_the_registry_killed_while_experts_train(nodes: Nodes, undisturbed: Undisturbed, tmp_path: Path) -> None:
    job = longer_job(tmp_path)
    with Saboteur(in_mid_epoch(job), lambda: kill_registry(nodes, job)):
        train_experts(job.specification, count=job.expert_count, epochs=job.expert_epochs, cluster=CLUSTER)
    assert checksums(job) == checksums(undisturbed.job)


@pytest.fixture
def heeded() -> Iterator[None]:
    """Take Ctrl-C as a terminal's processes do; those that a script has put in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_stops_the_experts_that_this_command_trains(
    nodes: Nodes, undisturbed: Undisturbed, tmp_path: Path, heeded: None
) -> None:
    job = longer_job(tmp_path, "experts.epochs=24")  # the signal takes a while to come through
    with (
        pytest.raises(KeyboardInterrupt),
        Saboteur(in_mid_epoch(job), lambda: os.kill(os.getpid(), signal.SIGINT)),
    ):
        train_experts(job.specification, count=job.expert_count, epochs=job.expert_epochs, cluster=CLUSTER)
    deadline = time.monotonic() + 30
    while nodes.running("ExpertTrainer"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    there = ExpertStore(job.specification.expert_folder()).index()
    assert all(len(epochs) < 25 for epochs in there.values())
    train_experts(job.specification, count=job.expert_count, epochs=job.expert_epochs, cluster=CLUSTER)
    ours, theirs = checksums(job), checksums(undisturbed.job)
    assert [{epoch: one[epoch] for epoch in other} for one, other in zip(ours, theirs, strict=True)] == theirs


def kill_registry(nodes: Nodes, job: Job) -> None:
    """Kill the process of the job's registry."""
    registry = get_registry(job.specification.expert_folder())
    pid = ray.get(registry.describe.remote())["pid"]
    [process] = [process for process in nodes.running("TrajectoryRegistry") if process.pid == pid]
    assert gone(process)


def test_the_registry_killed_while_it_is_read(nodes: Nodes, undisturbed: Undisturbed) -> None:
    folder = undisturbed.job.specification.expert_folder()
    registry = get_registry(folder)
    source, disk = RemoteSource(folder, expert_epochs(folder, 2)), ExpertStore(folder)
    held = source.load(0, 0)
    kill_registry(nodes, undisturbed.job)
    for expert, epoch, params in ((0, 0, held), (0, 1, source.load(0, 1)), (1, 2, source.load(1, 2))):
        theirs = disk.load(expert, epoch)
        assert all(torch.equal(params[name], theirs[name]) for name in theirs)
    kill_registry(nodes, undisturbed.job)
    [reference] = ray.get(registry.snapshot.remote(1, 2), timeout=60)  # a new owner, a new object
    assert ray.get(reference, timeout=60).keys() == disk.load(1, 2).keys()


def test_a_trial_killed(nodes: Nodes, undisturbed: Undisturbed, tmp_path: Path) -> None:
    job = with_the_experts_of(undisturbed, tmp_path)

    def deed() -> None:
        assert [gone(process) for process in nodes.running(TRIAL)] == [True]

    with Saboteur(lambda: checkpoints(job) >= 1, deed):
        rows = distill(job)
    assert_as_undisturbed(job, undisturbed, rows)


def test_a_node_killed_with_the_trial_on_it(nodes: Nodes, undisturbed: Undisturbed, tmp_path: Path) -> None:
    job = with_the_experts_of(undisturbed, tmp_path)
    with Saboteur(lambda: checkpoints(job) >= 1, lambda: nodes.kill_node_of(TRIAL)):
        rows = distill(job)
    assert_as_undisturbed(job, undisturbed, rows)


def test_a_node_killed_with_experts_on_it(nodes: Nodes, undisturbed: Undisturbed, tmp_path: Path) -> None:
    job = longer_job(tmp_path, "resources.expert.cpu=2")  # one expert a node
    with Saboteur(in_mid_epoch(job), lambda: nodes.kill(nodes.workers[0])):
        train_experts(job.specification, count=job.expert_count, epochs=job.expert_epochs, cluster=CLUSTER)
    assert ExpertStore(job.specification.expert_folder()).index() == {0: tuple(range(7)), 1: tuple(range(7))}
    checksums(job)


def with_the_experts_of(undisturbed: Undisturbed, storage: Path) -> Job:
    """Return a job whose experts are there, so that its trial begins soon; they are copies."""
    job = longer_job(storage)
    shutil.copytree(undisturbed.job.specification.expert_folder(), job.specification.expert_folder())
    return job


@pytest.mark.parametrize("damage", ["truncated", "gone", "manifest bit"])  # every kind is named in tests/experts
def test_a_damaged_expert_is_trained_again_from_its_last_whole_epoch(
    nodes: Nodes, undisturbed: Undisturbed, tmp_path: Path, damage: str
) -> None:
    job = with_the_experts_of(undisturbed, tmp_path)
    damaged(job, damage)
    with one_sentence_errors():
        train_experts(job.specification, count=job.expert_count, epochs=job.expert_epochs, cluster=CLUSTER)
    assert checksums(job) == checksums(undisturbed.job)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ("truncated", r"epoch_0003\.safetensors: its checksum is not"),
        ("manifest cut", r"manifest\.json: expected a JSON"),
    ],
)
def test_or_the_run_stops_with_one_sentence(
    nodes: Nodes, undisturbed: Undisturbed, tmp_path: Path, damage: str, sentence: str
) -> None:
    job = longer_job(tmp_path, "experts.damaged=stop")
    shutil.copytree(undisturbed.job.specification.expert_folder(), job.specification.expert_folder())
    damaged(job, damage)
    with pytest.raises(ValueError, match=rf"expert_0001/{sentence}") as caught, one_sentence_errors():
        train_experts(job.specification, count=job.expert_count, epochs=job.expert_epochs, cluster=CLUSTER)
    assert "\n" not in str(caught.value)


def damaged(job: Job, damage: str) -> None:
    """Damage the fourth snapshot of the second expert, or its manifest."""
    folder = job.specification.expert_folder() / "expert_0001"
    manifest = damage.startswith("manifest")
    path = folder / ("manifest.json" if manifest else "epoch_0003.safetensors")
    data = path.read_bytes()
    middle = len(data) // 2
    match damage.removeprefix("manifest "):
        case "truncated" | "cut":
            path.write_bytes(data[:middle])
        case "a bit" | "bit":
            path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        case "gone":
            path.unlink()
