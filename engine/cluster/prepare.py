"""Make what frozen networks make of the data once, in shards, by actors with the resources of an evaluation."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import ray
from ray.actor import ActorHandle
from ray.util import ActorPool
from tqdm import tqdm

from engine.cluster import runtime
from engine.cluster.errors import one_sentence_errors
from engine.data.cache import ShardedArray
from engine.specification import Specification

KIND = "accelerator_type:"
"""What the name of a resource begins with by which Ray tells the kind of a node's GPUs."""


def prepare(specification: Specification, cluster: runtime.Cluster) -> Specification:
    """Make the arrays that this machine lacks, and return the specification by which all processes open them.

    Without GPUs, arrays of one shard are made in this process: starting others takes longer. Shards stay in the storage
    only where other nodes may need them, which do not see this machine's cache.

    Raises:
        ValueError: the data cannot be used as the study is configured.
        RuntimeError: a shard could not be made.
    """
    granted = runtime.granted(specification.study.resources.evaluation, cluster)
    specification = replace(specification, made_on=kind_of_device(granted))
    arrays = specification.setup(device="cpu").arrays
    absent = {name: array for name, array in arrays.items() if not array.here}
    sent = {name: array for name, array in absent.items() if granted["gpu"] or len(array.firsts) > 1}
    for name in absent.keys() - sent.keys():
        arrays[name].open()
    with one_sentence_errors(specification.storage), _actors(specification, granted, cluster, sent) as actors:
        for name, array in sent.items():
            array.open(before=partial(_make_shards, actors, name, array))
    alone = sum(node["Alive"] for node in ray.nodes()) == 1
    for array in arrays.values() if not (alone or specification.cache_is_shared) else ():
        array.publish()
    for array in sent.values() if alone or specification.cache_is_shared else ():
        array.forget_shards()
    return specification


def kind_of_device(granted: Mapping[str, float]) -> str:
    """Return the kind of device that a task of these resources computes on: ``cpu``, or that of the cluster's GPUs."""
    if not granted["gpu"]:
        return "cpu"
    return " or ".join(sorted(name.removeprefix(KIND) for name in ray.cluster_resources() if KIND in name)) or "gpu"


class Preparer:
    """The actor's class, which makes single shards."""

    def __init__(self, specification: Specification, cpus: float) -> None:
        runtime.use_resources(cpus)
        self.specification = specification

    def make(self, name: str, first: int) -> int:
        """Write the shard of the array ``name`` that begins at a row, and return its number of rows."""
        return self.specification.setup().arrays[name].write(first)


@contextmanager
def _actors(
    specification: Specification,
    granted: Mapping[str, float],
    cluster: runtime.Cluster,
    sent: Mapping[str, ShardedArray],
) -> Iterator[list[ActorHandle]]:
    """Start as many actors as the cluster has room for and the longest array has shards, and end them at the end."""
    number = min(cluster.slots(granted), max((len(array.firsts) for array in sent.values()), default=0))
    options = {**runtime.actor_options(granted), "max_restarts": 2, "max_task_retries": 2}
    made = [ray.remote(Preparer).options(**options).remote(specification, granted["cpu"]) for _ in range(number)]
    try:
        yield made
    finally:
        for actor in made:
            ray.kill(actor)


def _make_shards(actors: list[ActorHandle], name: str, array: ShardedArray) -> None:
    """Make the missing shards of an array, and show the progress."""
    missing, total = array.missing(), array.shape[0]
    done = total - sum(array.rows_from(first) for first in missing)
    with tqdm(total=total, initial=done, desc=f"preparing {name}", unit="row", disable=None) as bar:
        pool = ActorPool(actors)
        for rows in pool.map_unordered(lambda actor, first: actor.make.remote(name, first), missing):
            bar.update(rows)
