"""Checks of a study before it starts: each raises a ValueError of one sentence for what would otherwise fail late."""

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from engine import build
from engine.cluster.address import may_be_running
from engine.cluster.nodes import Node
from engine.cluster.runtime import Cluster, granted
from engine.config.errors import ConfigError
from engine.config.resources import TASKS
from engine.experts.store import ExpertStore
from engine.io.progress import echo
from engine.io.terminal import format_bytes
from engine.resources import how_many_fit
from engine.studies.job import Job
from engine.studies.preflight.requirements import epochs_read, largest, snapshot_bytes
from engine.studies.preflight.shares import HEADROOM, PROCESS_BYTES

CHECKPOINTS = 2
"""Checkpoints that Tune keeps of each trial."""


def check_study(job: Job) -> None:
    """Check the configuration alone: the training of experts suits method and student, and students differ."""
    build.expert_recipe(job.study)
    given, read = job.study.experts.epochs, epochs_read(job.study)
    if given is not None and given < read:
        raise ConfigError(f"experts.epochs is {given}, expected at least {read}, the last epoch that the method reads.")
    own, *further = job.study.of_each_student()
    for number, one in enumerate(further):
        if any(one.student == other.student for other in [own, *further[:number]]):
            raise ConfigError(f"students.{number} is the same student as another one, expected different students.")


def check_here(job: Job, *, fresh: bool = False) -> None:
    """Check the study before Ray starts: load its data and build its students on the CPU, and compare these with it.

    What frozen networks make of few data is made here, if no GPU and no running cluster could make it. Experts of other
    data are refused, or set aside where ``fresh`` says so.

    Raises:
        FileNotFoundError: the data or the weights are missing.
        UndecodableError: few photos are there, and some are broken.
        ValueError: experts or the study were begun with other photos, captions or encoders.
    """
    check_study(job)
    setups = job.specification.setups(device="cpu")
    check_budgets(job, len(setups[0].datasets["train"]))
    for one, setup in zip(job.specification.of_each_student(), setups, strict=True):
        store = ExpertStore(one.expert_folder())
        if not fresh:
            store.check_inputs(setup.inputs)
        elif aside := store.set_aside(setup.inputs):
            echo(f"Experts of other data were set aside: {aside}")
    arrays = [array for setup in setups for array in setup.arrays.values()]
    if all(array.few for array in arrays) and not torch.cuda.is_available() and not may_be_running():
        for array in arrays:
            array.open()


def check_budgets(job: Job, pairs: int) -> None:
    """Check that the study needs no more than ``pairs`` training pairs."""
    wanted = {"method.num_pairs": largest(job.study, "method.num_pairs")}
    if job.study.baselines.coresets and job.study.baselines.pairs:
        wanted["baselines.pairs"] = max(job.study.baselines.pairs)
    for key, number in wanted.items():
        if number > pairs:
            place = job.study._given.of([key])
            raise ConfigError(f"{place}: {key} is {number}, expected at most {pairs}, the number of training pairs.")


def check_cluster(job: Job, cluster: Cluster) -> None:
    """Check that the cluster is large enough for each kind of task, and computes in the study's precision."""
    for task in TASKS:
        without = not granted(job.study.resources, task, cluster)["gpu"]
        if job.study.precision == "tf32" and without:
            place = job.study._given.of(["precision"])
            raise ConfigError(
                f"{place}: precision is 'tf32', which GPUs alone have, expected fp32 or bf16, since "
                + (f"resources.{task}.gpu is 0." if cluster.gpus else "the cluster has no GPU.")
            )


def check_disk(job: Job, checkpoint: int | None = 0) -> None:
    """Check that missing trajectories, and ``CHECKPOINTS`` of ``checkpoint`` bytes a trial, fit on the storage's disk.

    An object store is not checked, and an unknown ``checkpoint`` (None) counts as 0.
    """
    storage, folder = job.specification.storage, job.folder
    if not isinstance(storage, Path) or not isinstance(folder, Path):
        return
    trajectories = 0
    for one, setup in zip(job.specification.of_each_student(), job.specification.setups(device="cpu"), strict=True):
        there = ExpertStore(one.expert_folder()).index()
        done = sum(len([e for e in there.get(k, ()) if e <= job.expert_epochs]) for k in range(job.expert_count))
        trajectories += (job.expert_count * (job.expert_epochs + 1) - done) * snapshot_bytes(setup.student)
    written = sum(file.stat().st_size for file in folder.rglob("checkpoint_*/*"))
    checkpoints = max(0, job.samples * CHECKPOINTS * (checkpoint or 0) - written)
    free = shutil.disk_usage(next(folder for folder in (storage, *storage.parents) if folder.exists())).free
    if trajectories + checkpoints > free:
        of_trials = f" and the checkpoints of trials {format_bytes(checkpoints)}" if checkpoints else ""
        raise ValueError(
            f"storage: the trajectories take {format_bytes(trajectories)}{of_trials}, but the disk of {storage} has "
            f"{format_bytes(free)} free; train fewer experts (experts.count){', run fewer trials' * bool(checkpoints)} "
            "or name another folder."
        )


def buffer_warning(job: Job, cluster: Cluster) -> str | None:
    """Return a sentence if the trajectories that trials read exceed the object store of a node, else None."""
    snapshots = job.expert_count * (epochs_read(job.study) + 1)
    size = snapshots * sum(snapshot_bytes(setup.student) for setup in job.specification.setups(device="cpu"))
    if size <= cluster.object_store_bytes:
        return None
    return (
        f"The trajectories take {format_bytes(size)} and the object store of a node has "
        f"{format_bytes(cluster.object_store_bytes)}: trials will read snapshots from the storage again and again, "
        "which is slow."
    )


def check_memory(job: Job, step: int | None, resources: Mapping[str, float], nodes: Sequence[Node]) -> None:
    """Check that an outer step of ``step`` bytes fits on every node that can run a trial with these ``resources``.

    A trial has its share of the smallest GPU, or without one its share of a node's memory beside other trials.
    Nothing is checked where the bytes of the step or of the device are unknown.
    """
    cpu, gpu = resources["cpu"], resources["gpu"]
    rooms = []
    for node in nodes:
        if node.cpus < cpu or node.gpus < gpu:
            continue
        if gpu:
            room = min(1.0, gpu) * min(node.gpu_bytes, default=math.inf)
            where = f"the {format_bytes(room)} that resources.trial.gpu = {gpu:g} gives of a GPU of {node.name}"
        else:
            beside = int(max(1, min(job.samples, how_many_fit({"cpu": cpu}, {"cpu": node.cpus}))))
            room = node.memory_bytes / beside
            where = f"the {format_bytes(room)} that each of {beside} trials at once has of the memory of {node.name}"
        rooms.append((room, where))
    if step is None or not rooms:
        return
    room, where = min(rooms)
    if step + PROCESS_BYTES > HEADROOM * room:
        raise ConfigError(
            f"method.num_pairs is {largest(job.study, 'method.num_pairs')}, of which an outer step takes "
            f"{format_bytes(step)} beside the {format_bytes(PROCESS_BYTES)} of its process, expected at most "
            f"{HEADROOM:.0%} of {where}; {_remedies(job, resources)}."
        )


def _remedies(job: Job, resources: Mapping[str, float]) -> str:
    """Return the changes to a study that lower the memory of its outer step, or give it more."""
    options = job.study.method.options
    remedies = ["take fewer pairs"]
    if options.get("gradient") == "stored":
        remedies.append("method.gradient exact")
    if "inner_batch" in options:
        remedies.append("a smaller method.inner_batch")
    if resources["gpu"] < 1:
        remedies.append(f"a larger resources.trial.{'gpu' if resources['gpu'] else 'cpu'}")
    return " or ".join([", ".join(remedies[:-1]), remedies[-1]]) if len(remedies) > 1 else remedies[0]
