"""Joining a Ray cluster, or starting a private one, and sizing a process for what it was given."""

import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ray

from engine.cluster import autoscaling
from engine.config.schema import Request
from engine.io.signals import handle_sigterm
from engine.resources import how_many_fit


@dataclass(frozen=True)
class Cluster:
    """Where the work runs; ``object_store_bytes`` is that of the node with the smallest one."""

    joined: bool
    cpus: float
    gpus: float
    object_store_bytes: float

    def sentence(self) -> str:
        """Return the one line about this cluster with which every command begins."""
        where = "the running cluster" if self.joined else "a private one on this machine"
        store = f"{self.object_store_bytes / 2**30:.1f} GiB object store"
        return f"Ray: {where} ({self.cpus:g} CPUs, {self.gpus:g} GPUs, {store})"

    def slots(self, resources: Mapping[str, float]) -> int:
        """Return how many holders of ``granted`` resources fit at once, one at least."""
        return int(max(1, min(how_many_fit(resources, {"cpu": self.cpus, "gpu": self.gpus}), self.cpus)))


def start(*, local: bool = False) -> Cluster:
    """Join the cluster of ``RAY_ADDRESS``, or that of ``ray start`` on this machine, else start a private one.

    ``local`` starts a private one in any case. A private one of another command is never joined: it ends with its own.
    A cluster that is joined first grows to what ``VLDD_GPUS`` asks for.

    Raises:
        ConnectionError: ``RAY_ADDRESS`` names a cluster that does not answer.
        ValueError: ``VLDD_GPUS`` cannot be read.
        RuntimeError: the GPUs do not come.
    """
    if ray.is_initialized():
        return _described(joined=False)
    if local or not join():
        return _start_private()
    autoscaling.await_gpus()
    return _described(joined=True)


def join() -> bool:
    """Join a cluster that runs, that of ``RAY_ADDRESS`` or of ``ray start``, and say whether there is one.

    Raises:
        ConnectionError: ``RAY_ADDRESS`` names a cluster that does not answer.
    """
    if ray.is_initialized():
        return True
    address = os.environ.get("RAY_ADDRESS") or _started_here()
    if not address:
        return False
    try:
        ray.init(address=address, logging_level="ERROR", log_to_driver=False)
        handle_sigterm()  # Ray has put its own handler there
    except ConnectionError as error:
        if os.environ.get("RAY_ADDRESS"):
            raise ConnectionError(
                f"RAY_ADDRESS: no cluster answers at {address!r}; unset it or pass --local."
            ) from error
        return False
    return True


def temporary_folder() -> Path:
    """Return the folder that Ray keeps for itself, and deletes."""
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray"


def _started_here() -> str | None:
    """Return the address that ``ray start`` left on this machine (``ray stop`` deletes it), or None."""
    file = temporary_folder() / "ray_current_cluster"
    return file.read_text(encoding="utf-8").strip() or None if file.is_file() else None


def _start_private() -> Cluster:
    """Start a private Ray, a second time where the first does not come up on a machine that is busy.

    Raises:
        RuntimeError: neither does.
    """
    os.environ.pop("RAY_ADDRESS", None)
    for again in (True, False):
        try:
            ray.init(address="local", include_dashboard=False, logging_level="ERROR", log_to_driver=False)
            handle_sigterm()  # Ray has put its own handler there
            break
        except Exception as error:  # Ray raises no other here
            if _TOO_LATE not in str(error):
                raise
            ray.shutdown()
            if not again:
                raise RuntimeError("Ray did not come up in its time: this machine is too busy for it now.") from error
    return _described(joined=False)


_TOO_LATE = "timed out during startup"


def _described(*, joined: bool) -> Cluster:
    resources = ray.cluster_resources()
    stores = [node["Resources"].get("object_store_memory", math.inf) for node in ray.nodes() if node["Alive"]]
    return Cluster(
        joined=joined,
        cpus=resources.get("CPU", 0),
        gpus=resources.get("GPU", 0),
        object_store_bytes=min(stores, default=math.inf),
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


def actor_options(resources: Mapping[str, float]) -> dict[str, float]:
    """Return ``granted`` resources under the names that Ray's remote functions and actors use."""
    return {"num_cpus": resources["cpu"], "num_gpus": resources["gpu"]}


def use_cpus(cpus: float) -> None:
    """Let torch use as many threads as this process was given CPUs; Ray's own setting misses reused workers."""
    import torch

    torch.set_num_threads(max(1, int(cpus)))
