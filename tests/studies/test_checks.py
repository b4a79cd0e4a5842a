"""What cannot work is refused in one sentence before anything is started."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from engine.cluster.nodes import Node, check_nodes
from engine.cluster.runtime import Cluster, granted
from engine.cluster.search.tuner import Plan, plan, tune_domain
from engine.config.load import as_yaml, load, resolve
from engine.config.resources import Request, Resources
from engine.studies.job import Job, make_job
from engine.studies.preflight.checks import (
    HEADROOM,
    PROCESS_BYTES,
    buffer_warning,
    check_cluster,
    check_disk,
    check_here,
    check_memory,
    check_study,
)
from tests.tiny import tiny_job, words

TASK = Path(__file__).resolve().parents[2] / "tasks" / "distill.py"
SMALL = Cluster(joined=False, cpus=2, gpus=0, object_store_bytes=2**30)


def searching(tmp_path: Path, **domains: object) -> Job:
    """Return the tiny study with another search."""
    tree = yaml.safe_load(as_yaml(tiny_job(tmp_path / "runs").study))
    tree["search"] = {key.replace("__", "."): domain for key, domain in domains.items()}
    for key in tree["search"]:
        *parents, last = key.split(".")
        section = tree
        for parent in parents:
            section = section[parent]
        section.pop(last, None)
    path = tmp_path / "searching.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return make_job(str(path), resolve(load(path)), samples=2)


def test_experts_are_trained_as_far_as_any_trial_reads(tmp_path: Path) -> None:
    spans = {"choice": [1, 3, 2], "default": 1}
    job = searching(tmp_path, method__span=spans, method__max_start={"int": [1, 4], "default": 1})
    check_study(job)
    assert job.expert_epochs == 6  # the last start, 3, and the longest span


def test_a_searched_number_of_experts_is_trained_in_full(tmp_path: Path) -> None:
    job = searching(tmp_path, experts__count={"int": [1, 5], "default": 2})
    check_study(job)
    assert job.expert_count == 5


def test_experts_that_are_trained_for_too_short_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^experts.epochs is 1, expected at least 4, .*\.$"):
        check_study(tiny_job(tmp_path, "experts.epochs=1", "method.span=3", "method.max_start=2"))
    check_study(tiny_job(tmp_path, "experts.epochs=4", "method.span=3", "method.max_start=2"))


@pytest.mark.parametrize("key", ["method.num_pairs", "baselines.pairs"])
def test_no_more_pairs_than_there_are(key: str, tmp_path: Path) -> None:
    job = tiny_job(tmp_path, f"{key}=[2,1000]" if key.startswith("baselines") else f"{key}=1000")
    with pytest.raises(ValueError, match=rf"^command line: {key} is 1000, expected at most 300, the number of"):
        check_here(job)


def test_features_of_few_photos_are_made_at_once_where_no_cluster_could(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tiny_job(tmp_path, "student.image.train=frozen")
    arrays = job.specification.setup(device="cpu").arrays
    monkeypatch.setenv("RAY_ADDRESS", "far:6379")
    check_here(job)
    assert [array.here for array in arrays.values()] == [False] * 3
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where no cluster was started
    check_here(job)
    assert [array.here for array in arrays.values()] == [True] * 3


def test_a_request_that_can_never_be_served_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^resources: 3 cpu are asked for, but the cluster has 2 in all\.$"):
        check_cluster(tiny_job(tmp_path, "resources.evaluation.cpu=3"), SMALL)
    with pytest.raises(ValueError, match="2 gpu are asked for, but the cluster has 1"):
        granted(Resources(trial=Request(gpu=2)), "trial", Cluster(joined=True, cpus=4, gpus=1, object_store_bytes=1))
    assert granted(Resources(expert=Request(cpu=1, gpu=2)), "expert", SMALL) == {"cpu": 1, "gpu": 0}


def test_a_precision_of_gpus_alone_is_refused_without_one(tmp_path: Path) -> None:
    job, large = tiny_job(tmp_path, "precision=tf32"), Cluster(joined=True, cpus=4, gpus=2, object_store_bytes=1)
    check_cluster(job, large)
    asked = r"^command line: precision is 'tf32', which GPUs alone have, expected fp32 or bf16, since "
    with pytest.raises(ValueError, match=asked + r"the cluster has no GPU\.$"):
        check_cluster(job, SMALL)
    with pytest.raises(ValueError, match=asked + r"resources\.evaluation\.gpu is 0\.$"):
        check_cluster(tiny_job(tmp_path, "precision=tf32", "resources.evaluation.gpu=0"), large)


def test_trajectories_that_exceed_the_object_store_are_warned_of(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    assert buffer_warning(job, SMALL) is None
    warning = buffer_warning(job, Cluster(joined=False, cpus=2, gpus=0, object_store_bytes=1000))
    assert warning is not None
    assert "object store" in warning
    assert "to the disk and back" not in warning  # Ray never moves what a trial still holds
    assert warning.count("\n") == 0


def test_trajectories_have_room_on_the_disk(tmp_path: Path) -> None:
    check_disk(tiny_job(tmp_path / "not" / "there"))
    with pytest.raises(ValueError, match=r"^storage: the trajectories take .* GiB, but the disk of .* GiB free; .*\.$"):
        check_disk(tiny_job(tmp_path, "experts.count=1000000", "experts.epochs=1000000"))


def test_checkpoints_have_room_on_the_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=100 * 2**20))
    job = tiny_job(tmp_path, samples=5)
    check_disk(job, 9 * 2**20)
    with pytest.raises(
        ValueError,
        match=r"^storage: the trajectories take 0\.1 MiB and the checkpoints of trials 110\.0 MiB, but the disk "
        r"of .* has 100\.0 MiB free; train fewer experts \(.*\), run fewer trials or name another folder\.$",
    ):
        check_disk(job, 11 * 2**20)
    written = Path(str(job.folder)) / "tune" / "trial" / "checkpoint_000001" / "checkpoint.safetensors"
    written.parent.mkdir(parents=True)
    written.write_bytes(bytes(11 * 2**20))  # of a study that is resumed
    check_disk(job, 11 * 2**20)


ON_CPU, HALF_A_GPU = {"cpu": 1.0, "gpu": 0.0}, {"cpu": 1.0, "gpu": 0.5}
GIB = 2**30


def cpu_node(memory: float, *, cpus: float = 2) -> Node:
    return Node("here", cpus=cpus, gpus=0, memory_bytes=memory)


def gpu_node(*sizes: int, name: str = "far") -> Node:
    return Node(name, cpus=8, gpus=len(sizes), memory_bytes=64 * GIB, gpu_bytes=sizes)


def test_an_outer_step_has_room_beside_other_trials(tmp_path: Path) -> None:
    several, one = tiny_job(tmp_path), tiny_job(tmp_path, samples=1)
    step = int(HEADROOM * 4 * GIB / 2 - PROCESS_BYTES)
    check_memory(several, step, ON_CPU, [cpu_node(4 * GIB)])
    with pytest.raises(
        ValueError,
        match=r"^method\.num_pairs is 8, of which an outer step takes 1\.1 GiB beside the 768\.0 MiB of its process, "
        r"expected at most 90% of the 2\.0 GiB that each of 2 trials at once has of the memory of here; "
        r"take fewer pairs, a smaller method\.inner_batch or a larger resources\.trial\.cpu\.$",
    ):
        check_memory(several, step + 2, ON_CPU, [cpu_node(4 * GIB)])
    check_memory(one, step + 2, ON_CPU, [cpu_node(4 * GIB)])
    check_memory(several, step + 2, {"cpu": 2.0, "gpu": 0.0}, [cpu_node(4 * GIB)])


def test_trials_with_shares_of_a_processor_share_the_memory(tmp_path: Path) -> None:
    job, tenth = tiny_job(tmp_path, samples=40), {"cpu": 0.1, "gpu": 0.0}
    step = int(HEADROOM * 80 * GIB / 20 - PROCESS_BYTES)
    check_memory(job, step, tenth, [cpu_node(80 * GIB)])
    with pytest.raises(ValueError, match=r"4\.0 GiB that each of 20 trials at once has of the memory of here"):
        check_memory(job, step + 2, tenth, [cpu_node(80 * GIB)])  # a float division gives room to 19


def test_an_outer_step_has_room_on_the_smallest_gpu(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, "method.gradient=stored", samples=1)
    step = int(HEADROOM * 0.5 * 16 * GIB - PROCESS_BYTES)
    nodes = [gpu_node(80 * GIB, 80 * GIB, name="large"), gpu_node(80 * GIB, 16 * GIB), cpu_node(GIB)]
    check_memory(job, step, HALF_A_GPU, nodes)
    with pytest.raises(
        ValueError,
        match=r"^method\.num_pairs is 8, .* of the 8\.0 GiB that resources\.trial\.gpu = 0\.5 gives of a GPU of far; "
        r"take fewer pairs, method\.gradient exact, a smaller method\.inner_batch or a larger resources\.trial\.gpu\.$",
    ):
        check_memory(job, step + 2, HALF_A_GPU, nodes)
    check_memory(job, step + 2, {"cpu": 1.0, "gpu": 1.0}, nodes)
    check_memory(job, step + 2, HALF_A_GPU, nodes[:1])


def test_only_nodes_that_a_trial_can_run_on_count(tmp_path: Path) -> None:
    job, step = tiny_job(tmp_path, samples=1), 2 * GIB
    head = cpu_node(GIB, cpus=0)
    check_memory(job, step, ON_CPU, [head, cpu_node(8 * GIB)])
    check_memory(job, step, HALF_A_GPU, [head, cpu_node(GIB), gpu_node(80 * GIB)])
    with pytest.raises(ValueError, match="of the memory of here"):
        check_memory(job, step, ON_CPU, [cpu_node(GIB), gpu_node(80 * GIB)])


def test_what_is_not_known_is_not_checked(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    check_memory(job, None, ON_CPU, [cpu_node(GIB)])
    unread = Node("far", cpus=8, gpus=1, memory_bytes=GIB)
    check_memory(job, 100 * GIB, HALF_A_GPU, [unread])


@pytest.fixture
def small_cluster() -> Iterator[str]:
    """Start a node of two processors and little memory beside whatever else runs, and return its address."""
    from ray.cluster_utils import Cluster as Nodes

    folder = tempfile.mkdtemp(prefix="vldd-", dir="/tmp")
    head = {"num_cpus": 2, "memory": GIB, "object_store_memory": 100 * 2**20, "temp_dir": folder}
    nodes = Nodes(initialize_head=True, head_node_args={**head, "include_dashboard": False})
    yield nodes.address
    nodes.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_study_that_does_not_fit_ends_in_one_sentence_and_leaves_nothing(small_cluster: str, tmp_path: Path) -> None:
    large = ["method.num_pairs=300", "data.image_px=64", "method.gradient=stored"]
    done = subprocess.run(
        [sys.executable, str(TASK), *words(tmp_path / "runs", *large)],
        env={**os.environ, "RAY_ADDRESS": small_cluster},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: method.num_pairs is 300, of which an outer step takes ")
    assert "method.gradient exact" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["Estimate", "Ray"]
    assert [path.name for path in (tmp_path / "runs").glob("*") if path.name != "cache"] == []


@pytest.mark.usefixtures("ray_local")
def test_the_storage_has_to_be_writable(tmp_path: Path) -> None:
    check_nodes(tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(
        ValueError, match=r"^storage: .*/file/runs cannot be written to \(.*\), expected another folder\.$"
    ):
        check_nodes(tmp_path / "file" / "runs")


def test_trials_share_the_cluster() -> None:
    one = {"cpu": 1.0, "gpu": 0.0}
    assert plan(one, SMALL, 8) == Plan(samples=8, concurrent=2, resources=one)
    assert plan(one, SMALL, 1).concurrent == 1
    assert plan({"cpu": 1.0, "gpu": 0.5}, Cluster(True, 8, 1, 1), 8).concurrent == 2
    assert not plan(one, SMALL, 2).leaves(SMALL, one)
    assert plan(one, SMALL, 1).leaves(SMALL, one)


def test_shares_leave_as_many_others_as_ray_counts() -> None:
    large, two_fifths = Cluster(joined=True, cpus=8, gpus=1, object_store_bytes=1), {"cpu": 0.4, "gpu": 0.4}
    assert plan({"cpu": 0.2, "gpu": 0.2}, large, 8).concurrent == 5  # a float division gives 4
    assert plan(two_fifths, large, 1).leaves(large, {"cpu": 0.2, "gpu": 0.2}) == 3  # and here 2


def test_a_choice_of_mappings_is_searched(tmp_path: Path) -> None:
    starts = [{"image": "real", "text": "real"}, {"image": "noise", "text": "real"}]
    job = searching(tmp_path, method__init={"choice": starts, "default": dict(starts[0])})
    check_study(job)
    assert tune_domain(job.study.search["method.init"]).categories == starts
