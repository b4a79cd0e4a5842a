"""What would go wrong late, found early: each check raises one sentence before anything is trained or written."""

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine import build
from engine.cluster.nodes import Node
from engine.cluster.runtime import Cluster, granted
from engine.config.errors import ConfigError, inside
from engine.config.load import Resolved, assign, experts_identity
from engine.config.search import Choice, Domain, probes
from engine.experts.store import ExpertStore
from engine.io.terminal import format_bytes
from engine.resources import how_many_fit
from engine.studies.job import Job
from engine.studies.preflight.requirements import epochs_read, largest_budget, snapshot_bytes

HEADROOM = 0.9
"""The share of its memory that a trial's process and its outer step may take: allocators keep more than is in use."""

PROCESS_BYTES = 512 * 2**20
"""Put down for the process of a trial before its first step: with all libraries loaded it has 382 MiB of its own on a
CPU, and 297 MiB of their files, which trials share; a GPU's context was never measured."""


def check_study(job: Job) -> None:
    """Check what the configuration alone can tell.

    Raises:
        ValueError: a search would need several sets of experts or protocols, or experts are trained for too short, or
            in a way that the student does not allow.
    """
    build.expert_recipe(job.study)
    for key, domain in job.study.search.items():
        _check_shared(job.study, key, domain)
    given, read = job.study.experts.epochs, epochs_read(job.study)
    if given is not None and given < read:
        raise ConfigError(f"experts.epochs is {given}, expected at least {read}, the last epoch that the method reads.")


def _check_shared(study: Resolved, key: str, domain: Domain) -> None:
    """Refuse a searched key that would change what all trials of a search share."""
    if inside(key, "protocol"):
        raise ConfigError(f"search.{key}: all trials are compared under one protocol, expected one value.")
    values = domain.values if isinstance(domain, Choice) else probes(domain)[:2]
    same = all(experts_identity(assign(study, {key: value})) == experts_identity(study) for value in values)
    if key == "experts.epochs" or not same:
        raise ConfigError(f"search.{key}: all trials share the trajectories of one set of experts, expected one value.")


def check_data(job: Job) -> None:
    """Load the data and build the student here, before Ray is started, and compare them with the configuration.

    Raises:
        ValueError: something cannot be read or built, or more pairs are asked for than there are.
        FileNotFoundError: the data or the weights are not there.
    """
    pairs = len(job.specification.setup().pairs["train"])
    wanted = {"method.num_pairs": largest_budget(job.study)}
    if job.study.baselines.coresets and job.study.baselines.pairs:
        wanted["baselines.pairs"] = max(job.study.baselines.pairs)
    for key, number in wanted.items():
        if number > pairs:
            raise ConfigError(f"{key} is {number}, expected at most {pairs}, the number of training pairs.")


def check_cluster(job: Job, cluster: Cluster) -> None:
    """Check that every kind of task can be served.

    Raises:
        ValueError: the cluster is too small for one of them.
    """
    resources = job.study.resources
    for request in (resources.expert, resources.trial, resources.evaluation):
        granted(request, cluster)


def check_disk(job: Job) -> None:
    """Check that the trajectories which are still to be trained fit on the disk of the storage folder, if it has one.

    Raises:
        ValueError: they do not.
    """
    there = ExpertStore(job.specification.expert_folder()).index()
    done = sum(len([e for e in there.get(expert, ()) if e <= job.expert_epochs]) for expert in range(job.expert_count))
    missing = job.expert_count * (job.expert_epochs + 1) - done
    size = missing * snapshot_bytes(job.specification.setup().student)
    storage = job.specification.storage
    if not isinstance(storage, Path):
        return
    free = shutil.disk_usage(next(folder for folder in (storage, *storage.parents) if folder.exists())).free
    if size > free:
        raise ValueError(
            f"storage: the trajectories take {size / 2**30:.2g} GiB, but the disk of {storage} has "
            f"{free / 2**30:.2g} GiB free; train fewer experts (experts.count) or name another folder."
        )


def buffer_warning(job: Job, cluster: Cluster) -> str | None:
    """Return a sentence where the trajectories that trials read do not fit into a node's object store, else None."""
    snapshots = job.expert_count * (epochs_read(job.study) + 1)
    size = snapshots * snapshot_bytes(job.specification.setup().student)
    if size <= cluster.object_store_bytes:
        return None
    return (
        f"The trajectories take {size / 2**30:.2g} GiB and the object store of a node has "
        f"{cluster.object_store_bytes / 2**30:.2g} GiB: Ray will move them to the disk and back, which is slow."
    )


def check_memory(job: Job, step: int | None, resources: Mapping[str, float], nodes: Sequence[Node]) -> None:
    """Check that an outer step of ``step`` bytes fits wherever a trial with these ``resources`` can run.

    A trial has its share of the smallest GPU, or without one its share of a node's memory beside other trials.
    Where the bytes of the step or of the device are not known, nothing is checked.

    Raises:
        ValueError: it does not.
    """
    rooms = [
        _room(job, resources, node) for node in nodes if all(getattr(node, f"{k}s") >= v for k, v in resources.items())
    ]
    if step is None or not rooms:
        return
    room, where = min(rooms)
    if step + PROCESS_BYTES > HEADROOM * room:
        raise ConfigError(
            f"method.num_pairs is {largest_budget(job.study)}, of which an outer step takes {format_bytes(step)} "
            f"beside the {format_bytes(PROCESS_BYTES)} of its process, expected at most {HEADROOM:.0%} of {where}; "
            f"{_remedies(job, resources)}."
        )


def _room(job: Job, resources: Mapping[str, float], node: Node) -> tuple[float, str]:
    """Return the bytes that a trial has on a node, and what they are."""
    cpu, gpu = resources["cpu"], resources["gpu"]
    if gpu:
        room = min(1.0, gpu) * min(node.gpu_bytes, default=math.inf)
        return room, f"the {format_bytes(room)} that resources.trial.gpu = {gpu:g} gives of a GPU of {node.name}"
    beside = int(max(1, min(job.samples, how_many_fit({"cpu": cpu}, {"cpu": node.cpus}))))
    room = node.memory_bytes / beside
    return room, f"the {format_bytes(room)} that each of {beside} trials at once has of the memory of {node.name}"


def _remedies(job: Job, resources: Mapping[str, float]) -> str:
    """Return what can be changed in a study whose outer step does not fit."""
    options = job.study.method.options
    remedies = ["take fewer pairs"]
    if options.get("gradient") == "stored":
        remedies.append("method.gradient exact")
    if "inner_batch" in options:
        remedies.append("a smaller method.inner_batch")
    if resources["gpu"] < 1:
        remedies.append(f"a larger resources.trial.{'gpu' if resources['gpu'] else 'cpu'}")
    return " or ".join([", ".join(remedies[:-1]), remedies[-1]]) if len(remedies) > 1 else remedies[0]
