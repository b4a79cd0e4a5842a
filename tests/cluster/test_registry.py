"""The registry owns trajectories: they are read bitwise as from the disk, by anybody, after everybody else is gone."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import ray
import torch
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from engine import build
from engine.cluster.errors import one_sentence_errors
from engine.cluster.experts.registry import (
    NAMESPACE,
    RemoteSource,
    expert_epochs,
    get_registry,
    registry_name,
    stale_actors,
)
from engine.cluster.experts.train import train_experts
from engine.cluster.runtime import Cluster
from engine.experts.store import ExpertStore
from engine.experts.trajectory import ExpertSource, sample_segment
from engine.io.files import read_json
from engine.provenance import numbers_digest
from engine.rng import named_generator
from engine.studies.job import Job
from engine.tensors import Params
from tests.finished import Finished
from tests.tiny import tiny_job

CLUSTER = Cluster(joined=False, cpus=2, gpus=0, object_store_bytes=300 * 2**20)


def sources(finished: Finished) -> tuple[ExpertStore, RemoteSource]:
    """Return the trajectories of the finished study on disk, and through the registry."""
    folder = finished.job.specification.expert_folder()
    return ExpertStore(folder), RemoteSource(folder, expert_epochs(folder, 2))


def checksum(params: Params) -> str:
    """Return the digest of all bytes of a snapshot."""
    return hashlib.sha256(b"".join(params[name].numpy().tobytes() for name in sorted(params))).hexdigest()


def checksums(source: ExpertSource) -> dict[tuple[int, int], str]:
    """Return the digest of every snapshot."""
    return {(e, k): checksum(source.load(e, k)) for e, epochs in source.index().items() for k in epochs}


def train(job: Job) -> None:
    """Train the experts that a job lacks."""
    train_experts(job.specification, count=job.expert_count, epochs=job.expert_epochs, cluster=CLUSTER)


def written(folder: Path) -> dict[str, int]:
    """Return when each file below a folder was written."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_segment_from_the_registry_is_the_one_on_disk(finished: Finished) -> None:
    disk, remote = sources(finished)
    assert remote.index() == disk.index() == {0: (0, 1, 2), 1: (0, 1, 2)}
    for draw in range(3):
        a, b = (sample_segment(s, named_generator(draw, "segment"), span=1, max_start=2) for s in (disk, remote))
        for ours, theirs in ((a.start, b.start), (a.target, b.target)):
            assert list(ours) == list(theirs)
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_experts_are_gone_and_their_trajectories_are_not(finished: Finished) -> None:
    code = f"""
import hashlib, sys, ray
ray.init(address={ray.get_runtime_context().gcs_address!r}, logging_level="ERROR", log_to_driver=False)
registry = ray.get_actor({registry_name(finished.job.specification.expert_folder())!r}, namespace={NAMESPACE!r})
[reference] = ray.get(registry.snapshot.remote(1, 2), timeout=60)
arrays = ray.get(reference, timeout=60)
print(hashlib.sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays))).hexdigest())
"""
    second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    disk, _ = sources(finished)
    assert second.stdout.strip() == checksum(disk.load(1, 2))


def test_a_distillation_does_not_write_into_the_buffer(finished: Finished) -> None:
    _, remote = sources(finished)
    before = checksums(remote)
    build.distillation(finished.job.study, finished.job.specification.setup(), remote).run(3)
    _, again = sources(finished)
    assert checksums(again) == before


def test_experts_that_are_there_are_not_trained_again(finished: Finished) -> None:
    folder = finished.job.specification.expert_folder()
    before = written(folder)
    other = tiny_job(finished.job.specification.storage, "method.num_pairs=5", "method.inner_steps=3")
    assert other.folder != finished.job.folder
    assert other.specification.expert_folder() == folder
    train(other)
    assert written(folder) == before


def test_a_third_expert_joins_the_two(finished: Finished, tmp_path: Path) -> None:
    job = tiny_job(tmp_path, "experts.count=3")
    folder = job.specification.expert_folder()
    shutil.copytree(finished.job.specification.expert_folder(), folder)
    before = written(folder)
    train(job)
    assert expert_epochs(folder, 3) == {0: (0, 1, 2), 1: (0, 1, 2), 2: (0, 1, 2)}
    assert expert_epochs(folder, 2).keys() == {0, 1}  # a study of two reads two
    assert before.items() <= written(folder).items()


def test_the_sentence_of_a_damaged_expert_comes_through(finished: Finished, tmp_path: Path) -> None:
    job = tiny_job(tmp_path, "seed=1", "experts.damaged=stop")
    store = ExpertStore(job.specification.expert_folder())
    store.save(0, 0, {"image.x": torch.zeros(2)})
    (store.folder / "expert_0000" / "epoch_0000.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"epoch_0000\.safetensors: its checksum") as caught, one_sentence_errors():
        train(job)
    assert "\n" not in str(caught.value)


def test_a_registry_of_other_code_is_not_asked_and_ends_when_idle(
    ray_local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_name, old = registry_name(tmp_path), get_registry(tmp_path, idle_s=2.0)
    old_process = ray.get(old.describe.remote())["pid"]
    monkeypatch.setattr("engine.cluster.experts.registry.code_digest", lambda: "newer")
    assert registry_name(tmp_path) != old_name
    newer = get_registry(tmp_path)
    assert ray.get(newer.describe.remote())["pid"] != old_process
    deadline = time.monotonic() + 30
    while old_name in (names := stale_actors()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert registry_name(tmp_path) in names
    ray.kill(newer)


def test_a_reader_pins_a_bounded_number_of_bytes(finished: Finished) -> None:
    disk, remote = sources(finished)
    size = sum(value.nbytes for value in disk.load(0, 0).values())
    for room in (0, 1, 2):
        bounded = RemoteSource(remote.folder, remote.epochs, cache_bytes=room * size)
        assert checksums(bounded) == checksums(disk)
        assert [*bounded._cache] == [(1, 0), (1, 1), (1, 2)][3 - room :]
    bounded.load(1, 1)  # the one that was read last stays
    bounded.load(0, 0)
    assert [*bounded._cache] == [(1, 1), (0, 0)]


def test_a_registry_that_stalls_is_asked_again(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, remote = sources(finished)
    process = ray.get(get_registry(remote.folder).describe.remote())["pid"]
    monkeypatch.setattr("engine.cluster.experts.registry.ANSWER_S", 1.0)
    os.kill(process, signal.SIGSTOP)
    awake = threading.Timer(2.5, os.kill, (process, signal.SIGCONT))
    awake.start()
    started = time.monotonic()
    assert expert_epochs(remote.folder, 2) == remote.epochs
    assert checksums(RemoteSource(remote.folder, remote.epochs, timeout=1.0)) == checksums(disk)
    assert time.monotonic() - started > 1.0, "it did stall"
    awake.join()


def test_the_end_of_the_trial_that_asked_first_leaves_the_registry(finished: Finished, tmp_path: Path) -> None:
    folder = shutil.copytree(finished.job.specification.expert_folder(), tmp_path / "experts")
    group = placement_group([{"CPU": 1}])
    ray.get(group.ready(), timeout=60)
    of_the_trial = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)  # as Tune has it
    ask = ray.remote(lambda: ray.get(get_registry(folder).describe.remote(), timeout=60)["pid"])
    first = ray.get(ask.options(num_cpus=1, scheduling_strategy=of_the_trial).remote(), timeout=120)
    remove_placement_group(group)
    while placement_group_table(group)["state"] != "REMOVED":
        time.sleep(0.1)
    time.sleep(1)
    assert ray.get(get_registry(folder).describe.remote(), timeout=30)["pid"] == first
    ray.kill(get_registry(folder), no_restart=True)


def test_the_store_names_the_recipe_and_the_code_that_trained_it(finished: Finished) -> None:
    study = finished.job.study
    found = read_json(finished.job.specification.expert_folder() / "recipe.json")
    assert found["recipe"]["student"] == study.student.model_dump(mode="json")
    assert found["recipe"]["seed"] == study.seed
    assert found["provenance"]["numbers"] == numbers_digest()
