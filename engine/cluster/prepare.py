"""Decode photos and run frozen networks on the data once, in shards, with the resources of an evaluation."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from engine.cluster import photos, runtime
from engine.cluster.errors import one_sentence_errors
from engine.data.cache import ShardedArray
from engine.data.listed import write_listed
from engine.io.files import exclusive
from engine.io.progress import bar, echo, heard
from engine.io.storage import on_disk
from engine.specification import Specification

LOCK = ".prepare.lock"
POLL_S = 0.5
KIND = "accelerator_type:"
"""What the name of a resource begins with by which Ray tells the kind of a node's GPUs."""


def prepare(specification: Specification, cluster: runtime.Cluster) -> Specification:
    """Make the arrays that this machine lacks, and return the specification by which all processes open them.

    Of several commands one makes them, and the others say for whom they wait. Shards stay in the storage only where
    others may need them: in an object store, and on disks where nodes do not see this machine's cache.

    Raises:
        ValueError: the data cannot be used as the study is configured.
        RuntimeError: a shard could not be made.
    """
    granted = runtime.granted(specification.study.resources, "evaluation", cluster)
    specification = replace(specification, made_on=kind_of_device(granted))
    setups = specification.setups(device="cpu")
    pixels, arrays = setups[0].pixels, [array for setup in setups for array in setup.arrays.values()]
    with one_sentence_errors(specification.storage):
        if listed := setups[0].listed:
            specification = replace(specification, list_key=write_listed(listed, specification.prepared))
            specification.keep(setups)
        if not all(array.here for array in arrays):
            with exclusive(specification.paths.cache / LOCK, on_wait=_announce):
                photos.decode(pixels, cpus=granted["cpu"])
                _share(specification, pixels)  # those who make features read them
                for one, setup in zip(specification.of_each_student(), setups, strict=True):
                    _make(one, setup.arrays, granted, cluster.slots(granted))
        _share(specification, arrays)
    return specification


def _share(specification: Specification, arrays: Iterable[ShardedArray]) -> None:
    """Leave the shards of finished arrays in the storage only where others may need them."""
    storage, cache = specification.storage, specification.paths.cache
    shared = isinstance(storage, Path) and cache.is_relative_to(storage)  # all nodes see the cache in the storage
    elsewhere = not shared and sum(node["Alive"] for node in ray.nodes()) > 1
    for array in arrays:
        if elsewhere:
            array.publish()
        elif on_disk(storage):
            array.forget_shards()


def _announce(holder: str) -> None:
    """Print who makes the arrays that this command waits for."""
    echo(f"These data are being prepared by {holder}; this command waits and uses what it finds then.")


def kind_of_device(granted: Mapping[str, float]) -> str:
    """Return the kind of device that a task of these resources computes on: ``cpu``, or that of the cluster's GPUs."""
    if not granted["gpu"]:
        return "cpu"
    return " or ".join(sorted(name.removeprefix(KIND) for name in ray.cluster_resources() if KIND in name)) or "gpu"


def _make(
    specification: Specification, arrays: Mapping[str, ShardedArray], granted: Mapping[str, float], slots: int
) -> None:
    """Make the missing arrays: without a GPU, those of few rows here, since starting another process takes longer."""
    absent = {name: array for name, array in arrays.items() if not array.here}
    sent = {name: array for name, array in absent.items() if granted["gpu"] or not array.few}
    for name in absent.keys() - sent.keys():
        arrays[name].open()
    number = min(slots, max((len(array.firsts) for array in sent.values()), default=0))
    # A node or two may go; one thread of an actor makes a shard, while another one says how far it is.
    options = {**runtime.actor_options(granted), "max_restarts": 2, "max_task_retries": 2, "max_concurrency": 2}
    actors = [ray.remote(Preparer).options(**options).remote(specification, granted["cpu"]) for _ in range(number)]
    try:
        for name, array in sent.items():
            _make_shards(actors, name, array)
            array.open(stays=False)
    finally:
        for actor in actors:
            ray.kill(actor)


class Preparer:
    """The actor's class, which makes single shards."""

    def __init__(self, specification: Specification, cpus: float) -> None:
        runtime.use_resources(cpus)
        self.specification = specification
        self._done = 0

    def ready(self) -> int:
        """Return 0 rows once the actor runs."""
        return 0

    def make(self, name: str, first: int) -> int:
        """Write the shard of the array ``name`` that begins at a row, and return its number of rows."""
        try:
            with heard(self._count):
                return self.specification.setup().arrays[name].write(first)
        finally:
            self._done = 0

    def done(self) -> int:
        """Return the rows that are done of the shard in work, as far as the encoder says so."""
        return self._done

    def _count(self, rows: int) -> None:
        self._done += rows


def _make_shards(actors: list[ActorHandle], name: str, array: ShardedArray) -> None:
    """Give each actor that runs a missing shard after the other, and show the progress."""
    missing, total = array.missing(), array.shape[0]
    left = sum(array.rows_from(first) for first in missing)
    with bar(f"preparing {name}", total=total, done=total - left, unit="rows") as progress:
        busy = {actor.ready.remote(): actor for actor in actors}
        while left:
            ended, _ = ray.wait(list(busy), timeout=POLL_S)
            for one in ended:
                actor = busy.pop(one)
                left -= ray.get(one)
                if missing:
                    busy[actor.make.remote(name, missing.pop(0))] = actor
            begun = 0 if ended else _rows_begun(list(busy.values()))
            progress.move(max(progress.done, total - left + begun))


def _rows_begun(actors: list[ActorHandle]) -> int:
    """Return the rows done of unfinished shards; actors that start, or that died, add none."""
    answers, _ = ray.wait([actor.done.remote() for actor in actors], num_returns=len(actors), timeout=POLL_S)
    rows = 0
    for answer in answers:
        with suppress(RayError):
            rows += ray.get(answer)
    return rows
