"""Join a Ray cluster or start a private one, and fit processes to the resources that Ray assigned them."""

import atexit
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import ray

from engine.cluster import autoscaling
from engine.cluster.address import running_cluster
from engine.config.resources import USUAL_SHARES, Resources, Task
from engine.io.paths import ray_folder
from engine.io.signals import handle_sigterm
from engine.io.storage import check_writable
from engine.resources import how_many_fit

LONGEST_SOCKET = 107
SOCKET = "session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store"
"""Where Ray puts its socket, and the longest path of one on Linux."""


@dataclass(frozen=True)
class Cluster:
    """The resources of a Ray cluster; ``object_store_bytes`` is that of the node with the smallest object store.

    ``shares`` of a GPU are those of tasks for which a study names none.
    """

    joined: bool
    cpus: float
    gpus: float
    object_store_bytes: float
    shares: Mapping[Task, float] = field(default_factory=lambda: USUAL_SHARES)

    def sentence(self) -> str:
        """Return the line about the cluster that every command prints first."""
        where = "the running cluster" if self.joined else "a private one on this machine"
        store = f"{self.object_store_bytes / 2**30:.1f} GiB object store"
        return f"Ray: {where} ({self.cpus:g} CPUs, {self.gpus:g} GPUs, {store})"

    def slots(self, resources: Mapping[str, float]) -> int:
        """Return how many holders of ``granted`` resources fit at once, at least 1; for no resources, one a CPU."""
        fit = how_many_fit(resources, {"cpu": self.cpus, "gpu": self.gpus})
        return int(max(1, fit if math.isfinite(fit) else self.cpus))


def start(*, local: bool = False) -> Cluster:
    """Join the cluster of ``RAY_ADDRESS`` or of ``ray start`` on this machine, else start a private one.

    With ``local``, a private one is started in any case. The private cluster of another command is never joined, since
    it ends with that command. A joined cluster first grows to the GPUs that ``VLDD_GPUS`` asks for.

    Raises:
        ConnectionError: ``RAY_ADDRESS`` names a cluster that does not answer.
        ValueError: ``RAY_ADDRESS``, ``RAY_TMPDIR`` or ``VLDD_GPUS`` cannot be used.
        RuntimeError: the GPUs do not come, or a private Ray does not start.
    """
    if ray.is_initialized():
        return _described(joined=False)
    if local or not join():
        return _start_private()
    autoscaling.await_gpus()
    return _described(joined=True)


def join() -> bool:
    """Join the cluster that ``running_cluster`` finds, and return whether there is one."""
    if ray.is_initialized():
        return True
    if (address := running_cluster()) is None:
        return False
    ray.init(address=address, logging_level="ERROR", log_to_driver=False)
    handle_sigterm()  # Ray has put its own handler there
    return True


def _start_private() -> Cluster:
    """Start a private Ray, and once more if the first one times out because the machine is busy."""
    os.environ.pop("RAY_ADDRESS", None)
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray writes one into the home folder
    folder = _private_folder()
    for again in (True, False):
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                logging_level="ERROR",
                log_to_driver=False,
                _temp_dir=str(folder),
            )
            handle_sigterm()  # Ray has put its own handler there
            break
        except Exception as error:  # Ray raises a plain Exception here
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            if not again:
                raise RuntimeError(
                    "Ray did not start in time; this machine is too busy, expected free CPUs."
                ) from error
    return _described(joined=False)


def _private_folder() -> Path:
    """Return the folder of a private Ray: ``ray_folder``, or a short one that is deleted at the end."""
    folder = ray_folder()
    longest = LONGEST_SOCKET - len(f"/ray/{SOCKET}")
    try:
        check_writable(folder, key="RAY_TMPDIR")
        if len(os.fsencode(folder.parent)) > longest or not str(folder).isascii():
            raise ValueError(
                f"RAY_TMPDIR is {str(folder.parent)!r}, expected an ASCII path of at most {longest} characters, since "
                "the paths of sockets are short."
            )
    except ValueError:
        if os.environ.get("RAY_TMPDIR"):
            raise
        folder = Path(tempfile.mkdtemp(prefix="vldd-", dir="/tmp"))
        atexit.register(_end, folder)
    return folder


def _end(folder: Path) -> None:
    """Stop Ray, and delete its folder."""
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def _described(*, joined: bool) -> Cluster:
    resources = ray.cluster_resources()
    stores = [node["Resources"].get("object_store_memory", math.inf) for node in ray.nodes() if node["Alive"]]
    return Cluster(
        joined=joined,
        cpus=resources.get("CPU", 0),
        gpus=resources.get("GPU", 0),
        object_store_bytes=min(stores, default=math.inf),
    )


def granted(resources: Resources, task: Task, cluster: Cluster) -> dict[str, float]:
    """Return the resources that a task gets; its GPUs fall to 0 if the cluster has none.

    Raises:
        ValueError: the cluster is too small for the task.
    """
    found = resources.of(task, cluster.shares) | ({} if cluster.gpus else {"gpu": 0.0})
    for name, total in (("cpu", cluster.cpus), ("gpu", cluster.gpus)):
        if found[name] > total:
            raise ValueError(f"resources: {found[name]:g} {name} are asked for, but the cluster has {total:g} in all.")
    return found


def actor_options(resources: Mapping[str, float]) -> dict[str, float]:
    """Return ``granted`` resources under the names that Ray's remote functions and actors use."""
    return {"num_cpus": resources["cpu"], "num_gpus": resources["gpu"]}


def use_resources(cpus: float) -> None:
    """Give torch as many threads as this worker has CPUs, and hide all GPUs from a worker that was assigned none.

    Call it in a worker before CUDA is initialised. Ray's own setting of threads misses reused workers. Ray leaves
    ``CUDA_VISIBLE_DEVICES`` alone where ``num_gpus`` is 0, and a joined cluster's workers start without our setting.

    Raises:
        ValueError: Ray assigned a GPU, and torch sees none.
    """
    import torch

    torch.set_num_threads(max(1, int(cpus)))
    context = ray.get_runtime_context()
    assigned = context.get_accelerator_ids()["GPU"]
    if not assigned:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif not torch.cuda.is_available():
        raise ValueError(
            f"resources: Ray assigned GPU {', '.join(assigned)} of node {ray.util.get_node_ip_address()}, but torch "
            f"{torch.__version__} sees none there, expected a torch and a driver that do, or gpu: 0 for every task."
        )
