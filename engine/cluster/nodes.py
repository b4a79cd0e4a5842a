"""What every node of a cluster has to have in common, asked by a tiny task on each before any work starts."""

import platform
import uuid
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from engine.io.files import digest, write_json
from engine.io.storage import Location, remove_tree

PACKAGES = ("torch", "numpy", "safetensors", "timm", "transformers", "open_clip_torch", "scikit-learn")
"""Packages that decide numbers; Ray compares its own version, and Python's, by itself."""

PATIENCE_S = 120.0

Answer = dict[str, str]
"""What a node tells: its name, an error or nothing, and the versions that it has."""


def check_nodes(storage: Location) -> None:
    """Have every node read the storage folder, write into it, and tell its versions; compare them with ours.

    Raises:
        ValueError: a node sees another storage folder or may not write there, or has other versions.
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
        nodes = [node for node in ray.nodes() if node["Alive"]]
        if len(nodes) > 1:
            compare(storage, ours(), _answers(folder, [node["NodeID"] for node in nodes]))
    finally:
        remove_tree(folder)


def ours() -> Answer:
    """Return the versions of this process, and a digest of the engine's own source."""
    root = Path(__file__).resolve().parents[1]
    source = digest(*(path.read_bytes() for path in sorted(root.rglob("*.py"))))
    return {"python": platform.python_version(), "engine": source, **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


@ray.remote(num_cpus=0, max_retries=0)
def _ask(folder: Location) -> Answer:
    """Return what a node has, and why the folder that the driver made cannot be used there, if it cannot."""
    told = {**ours(), "name": platform.node(), "error": ""}
    if not (folder / "here.json").is_file():
        return {**told, "error": "does not see it"}
    try:
        write_json(folder / f"{uuid.uuid4().hex}.json", {})
    except OSError as error:
        return {**told, "error": f"cannot write there ({error.strerror or error})"}
    return told


def _answers(folder: Location, nodes: list[str]) -> list[Answer]:
    pinned = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
    asked = [_ask.options(scheduling_strategy=strategy).remote(folder) for strategy in pinned]
    try:
        answers: list[Answer] = ray.get(asked, timeout=PATIENCE_S)
    except GetTimeoutError as error:
        raise RuntimeError(
            f"a node of the cluster did not answer within {PATIENCE_S:g} s; see 'ray status'."
        ) from error
    except RayError as error:
        raise RuntimeError(f"a node of the cluster cannot run a task: {str(error).strip().splitlines()[-1]}") from error
    return answers


def compare(storage: Location, wanted: Mapping[str, str], answers: list[Answer]) -> None:
    """Compare what the nodes told with what is wanted.

    Raises:
        ValueError: a node cannot use the storage folder, or has other versions.
    """
    for answer in answers:
        if answer["error"]:
            raise ValueError(
                f"storage: {storage} has to be one folder for all nodes, but {answer['name']} {answer['error']}."
            )
        for name, expected in wanted.items():
            if answer[name] != expected:
                raise ValueError(
                    f"versions: the node {answer['name']} has {name} {answer[name]}, expected {expected} as here."
                )
