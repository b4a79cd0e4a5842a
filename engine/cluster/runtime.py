"""Joining a Ray cluster, or starting a private one, and sizing a process for what it was given."""

import os
from dataclasses import dataclass

import ray
import torch

from engine.study import Request


@dataclass(frozen=True)
class Cluster:
    """Where the work runs, as the first line of a command says it."""

    joined: bool
    cpus: float
    gpus: float
    object_store_bytes: float

    def sentence(self) -> str:
        """Return one line about this cluster."""
        where = "the running cluster" if self.joined else "a private one on this machine"
        store = f"{self.object_store_bytes / 2**30:.1f} GiB object store"
        return f"Ray: {where} ({self.cpus:g} CPUs, {self.gpus:g} GPUs, {store})"


def start(*, local: bool = False) -> Cluster:
    """Join the cluster of ``RAY_ADDRESS`` or of this machine; with ``local``, or where none is, start a private one.

    Raises:
        ConnectionError: ``RAY_ADDRESS`` names a cluster that does not answer.
    """
    if ray.is_initialized():
        return _described(joined=False)
    address = os.environ.get("RAY_ADDRESS")
    if local:
        return _start_private()
    try:
        ray.init(address=address or "auto", logging_level="ERROR", log_to_driver=False)
    except ConnectionError as error:
        if address:
            raise ConnectionError(
                f"RAY_ADDRESS: no cluster answers at {address!r}; unset it or pass --local."
            ) from error
        return _start_private()
    return _described(joined=True)


def _start_private() -> Cluster:
    os.environ.pop("RAY_ADDRESS", None)
    ray.init(address="local", include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    return _described(joined=False)


def _described(*, joined: bool) -> Cluster:
    resources = ray.cluster_resources()
    return Cluster(
        joined=joined,
        cpus=resources.get("CPU", 0),
        gpus=resources.get("GPU", 0),
        object_store_bytes=resources.get("object_store_memory", 0),
    )


def granted(request: Request, cluster: Cluster) -> dict[str, float]:
    """Return a request as Ray takes it; its GPUs fall to 0 where the cluster has none.

    Raises:
        ValueError: no cluster of this size can ever serve it.
    """
    gpu = request.gpu if cluster.gpus else 0.0
    for name, wanted, total in (("cpu", request.cpu, cluster.cpus), ("gpu", gpu, cluster.gpus)):
        if wanted > total:
            raise ValueError(f"resources: {wanted:g} {name} are asked for, but the cluster has {total:g} in all.")
    return {"cpu": request.cpu, "gpu": gpu}


def actor_options(resources: dict[str, float]) -> dict[str, float]:
    """Return ``granted`` resources under the names that Ray's remote functions and actors use."""
    return {"num_cpus": resources["cpu"], "num_gpus": resources["gpu"]}


def use_cpus(cpus: float) -> None:
    """Let torch use as many threads as this process was given CPUs; Ray's own setting misses reused workers."""
    torch.set_num_threads(max(1, int(cpus)))
