"""What memory the nodes of a cluster and their GPUs have."""

import math
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

QUERY = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Node:
    """A node that is alive: its name, processors and GPUs, the bytes that Ray lends to tasks there, and of each GPU.

    ``gpu_bytes`` is empty where the node has no GPU, and where nobody can tell.
    """

    name: str
    cpus: float
    gpus: float
    memory_bytes: float
    gpu_bytes: tuple[int, ...] = ()


def read_nodes() -> list[Node]:
    """Return the nodes of the running Ray; those with GPUs are asked by a task on each.

    That task is nvidia-smi alone, so that no process of ours opens a GPU; it was never run on a machine that has one.
    """
    alive = [node for node in ray.nodes() if node["Alive"]]
    asked = {
        node["NodeID"]: _ask.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in alive
        if node["Resources"].get("GPU", 0) > 0
    }
    return [_node(node, _answer(asked.get(node["NodeID"]))) for node in alive]


def _node(told: Mapping[str, Any], gpu_bytes: tuple[int, ...]) -> Node:
    have = told["Resources"]
    return Node(
        name=told["NodeManagerHostname"],
        cpus=have.get("CPU", 0.0),
        gpus=have.get("GPU", 0.0),
        memory_bytes=have.get("memory", math.inf),
        gpu_bytes=gpu_bytes,
    )


@ray.remote(num_cpus=0, num_gpus=0, max_retries=0)
def _ask() -> str:
    """Return what nvidia-smi says on this node, nothing where there is none."""
    try:
        return subprocess.run(QUERY, capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _answer(asked: ray.ObjectRef | None) -> tuple[int, ...]:
    """Wait for a node's answer; one that gives none is taken up by ``nodes.check_nodes``."""
    if asked is None:
        return ()
    try:
        return gpu_bytes(ray.get(asked, timeout=PATIENCE_S))
    except (GetTimeoutError, RayError):
        return ()


def gpu_bytes(answer: str) -> tuple[int, ...]:
    """Return the bytes of each GPU in an answer of ``QUERY``, which has one line of MiB a GPU.

    A line that is no number, such as ``[N/A]`` of a GPU that shares the host's memory, is left out.
    """
    numbers = [line.strip() for line in answer.splitlines()]
    return tuple(int(number) * 2**20 for number in numbers if number.isascii() and number.isdigit())
