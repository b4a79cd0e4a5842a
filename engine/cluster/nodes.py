"""Probe every node of a cluster before any work starts: its storage folder, its versions and its memory."""

import math
import re
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.accelerators import NvidiaGPUAcceleratorManager
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from engine import provenance
from engine.io.files import write_json
from engine.io.storage import Location, remove_tree

MEMORY = ("--query-gpu=memory.total", "--format=csv,noheader,nounits")
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Node:
    """A live node: name, CPUs, GPUs, the bytes that Ray lends to its tasks, and the bytes of each of its GPUs.

    ``gpu_bytes`` is empty for a node without GPUs, and where nvidia-smi gives no numbers.
    """

    name: str
    cpus: float
    gpus: float
    memory_bytes: float
    gpu_bytes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Answer:
    """The answer of one node: its versions, why it cannot use the storage (or ""), and the output of nvidia-smi."""

    versions: Mapping[str, str]
    error: str = ""
    smi: str = ""


def check_nodes(storage: Location) -> list[Node]:
    """Return the nodes of the running Ray, after checking that each one can use the storage and has our versions.

    A node that has GPUs, or is one of several, is probed by one small task. No probe opens a GPU.

    Raises:
        ValueError: a node sees another storage folder, cannot write there, or has other versions.
        RuntimeError: a node does not answer.
    """
    folder = storage / f".probe-{uuid.uuid4().hex[:8]}"
    try:
        write_json(folder / "here.json", {})
    except OSError as error:
        raise ValueError(
            f"storage: {storage} cannot be written to ({error.strerror or error}), expected another folder."
        ) from error
    try:
        alive = [node for node in ray.nodes() if node["Alive"]]
        asked = [node for node in alive if len(alive) > 1 or node["Resources"].get("GPU", 0) > 0]
        answers = dict(zip((node["NodeID"] for node in asked), _answers(folder, asked), strict=True))
    finally:
        remove_tree(folder)
    compare(storage, {node["NodeManagerHostname"]: answers[node["NodeID"]] for node in asked})
    return [
        Node(
            name=node["NodeManagerHostname"],
            cpus=node["Resources"].get("CPU", 0.0),
            gpus=node["Resources"].get("GPU", 0.0),
            memory_bytes=node["Resources"].get("memory", math.inf),
            gpu_bytes=gpu_bytes(answers[node["NodeID"]].smi) if node["NodeID"] in answers else (),
        )
        for node in alive
    ]


def _answers(folder: Location, nodes: list[dict[str, Any]]) -> list[Answer]:
    pinned = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    asked = [_probe.options(scheduling_strategy=strategy).remote(folder) for strategy in pinned]
    try:
        answers: list[Answer] = ray.get(asked, timeout=PATIENCE_S)
    except GetTimeoutError as error:
        raise RuntimeError(
            f"a node of the cluster did not answer within {PATIENCE_S:g} s; see 'ray status'."
        ) from error
    except RayError as error:
        raise RuntimeError(f"a node of the cluster cannot run a task: {str(error).strip().splitlines()[-1]}") from error
    return answers


@ray.remote(num_cpus=0, max_retries=0)
def _probe(folder: Location) -> Answer:
    """Answer for this node, to which the driver has shown a storage folder with one file in it."""
    error = ""
    if not (folder / "here.json").is_file():
        error = "does not see it"
    else:
        try:
            write_json(folder / f"{uuid.uuid4().hex}.json", {})
        except OSError as refused:
            error = f"cannot write there ({refused.strerror or refused})"
    return Answer(versions(), error, _memory_of_gpus())


def versions() -> dict[str, str]:
    """Return the versions of this process that all nodes must share, and the digest of the engine's source."""
    return {**provenance.versions(), "engine": provenance.code_digest()}


def compare(storage: Location, answers: Mapping[str, Answer]) -> None:
    """Check the answers of nodes, which are given by name.

    Raises:
        ValueError: a node cannot use the storage folder, or has other versions than this process.
    """
    for node, answer in answers.items():
        if answer.error:
            raise ValueError(f"storage: {storage} has to be one folder for all nodes, but {node} {answer.error}.")
        for name, expected in versions().items():
            if answer.versions[name] != expected:
                raise ValueError(
                    f"versions: the node {node} has {name} {answer.versions[name]}, expected {expected} as here."
                )


def gpu_bytes(smi: str) -> tuple[int, ...]:
    """Return the bytes of each GPU from what nvidia-smi says: a line of MiB a card, then its list of cards.

    A card that is divided (MIG) counts as its parts, whose gigabytes are in the names of their profiles (``3g.20gb``).
    Lines that are no number are left out, such as ``[N/A]`` of a GPU that shares the host's memory.
    """
    lines = [line.strip() for line in smi.splitlines()]
    whole = [int(line) * 2**20 for line in lines if line.isascii() and line.isdigit()]
    parts = list[list[int]]()
    for line in lines:
        if re.match(r"GPU \d+:", line):
            parts.append([])
        elif parts and (profile := re.match(r"MIG (?:\d+c\.)?\d+g\.(\d+)gb", line)):
            parts[-1].append(int(profile[1]) * 10**9)
    if len(parts) != len(whole):  # no list, or cards that tell no number
        return tuple(whole) + tuple(size for sizes in parts for size in sizes)
    return tuple(size for card, sizes in zip(whole, parts, strict=True) for size in sizes or [card])


def _memory_of_gpus() -> str:
    """Return what nvidia-smi says of this machine's GPUs and of their parts; no GPU is opened."""
    return "".join(_asked("nvidia-smi", *words) for words in (MEMORY, ("-L",)))


def names_of_gpus() -> list[str]:
    """Return the names of this machine's GPUs that nvidia-smi lists; none where that program is missing."""
    return _asked("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()


def bytes_of_gpus() -> tuple[int, ...]:
    """Return the bytes of each of this machine's GPUs, as ``gpu_bytes`` does; no GPU is opened."""
    return gpu_bytes(_memory_of_gpus())


def _asked(*command: str) -> str:
    """Return the output of a command on this machine, or nothing where it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def gpus_of_ray() -> float:
    """Return how many GPUs a Ray that is started on this machine would lend."""
    return float(NvidiaGPUAcceleratorManager.get_current_node_num_accelerators())
