"""Describe what this machine can do for a study, and name what would go wrong."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

import torch

from engine import __version__, provenance
from engine.cluster.address import running_cluster
from engine.cluster.nodes import gpus_of_ray, names_of_gpus
from engine.io.paths import default_paths
from engine.io.shell import program
from engine.io.storage import check_answers, check_writable, location
from engine.io.terminal import format_bytes
from engine.models.packages import PACKAGES, PUBLIC, install, installed
from engine.studies.job import local_folder
from engine.tracking.mlflow.uri import VARIABLE, check_uri, default_uri, is_server, shown

LITTLE_DISK = 8 * 2**30, "an installation and a study need about this much"
LITTLE_SHARED = 2**30, "Ray's object store then lies on a disk and is slow"
"""Bytes below which a study gets into trouble, and why."""
HUB = "https://huggingface.co"
PATIENCE_S = 5.0
"""Seconds in which a server has to take a connection."""


def examine(storage: str) -> tuple[dict[str, str], list[str]]:
    """Return a line about each subject, and a sentence about everything that would go wrong with this storage."""
    where = location(storage)
    here = local_folder(where)
    paths, uri = default_paths(here), default_uri(here)
    versions = ", ".join(f"{name} {number}" for name, number in provenance.versions().items() if number != "none")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    wrong: list[str] = []
    lines = {
        "versions": f"vldistill {__version__} at {provenance.commit()}; {versions}",
        "processors": f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} for this process",
        "GPUs": _gpus(wrong),
        "memory": f"{format_bytes(memory)}; shared memory {format_bytes(_free_bytes(Path('/dev/shm')))}",
        "storage": f"{where}; on this disk {format_bytes(_free_bytes(here))} free",
        "data": f"{paths.data}: {_named(paths.data)}",
        "weights": f"{paths.weights}: {_named(paths.weights)}; packages: {_packages(wrong)}",
        "hub": _hub(),
        "Ray": "a private one would be started",
        "MLflow": shown(uri),
    }

    def attempt(check: Callable[[], object]) -> None:
        try:
            check()
        except (ValueError, OSError, RuntimeError) as error:
            wrong.append(" ".join(str(error).split()))

    checkout, imported = Path("engine/__init__.py").resolve(), provenance.ENGINE / "__init__.py"
    if checkout.is_file() and checkout != imported:
        wrong.append(
            f"engine: commands run {imported.parent}, not the checkout here; {program('pip')} install "
            "--constraint constraints.txt --editable . makes them one."
        )
    attempt(lambda: check_writable(here, key="storage"))
    attempt(lambda: check_answers(where))
    attempt(lambda: check_uri(uri))
    if is_server(uri) and not _answers(uri):
        wrong.append(f"{VARIABLE} is {shown(uri)!r}, where no server takes a connection.")
    attempt(lambda: lines.update(Ray=f"the cluster at {address}" if (address := running_cluster()) else lines["Ray"]))
    for folder, (least, why) in {here: LITTLE_DISK, Path("/dev/shm"): LITTLE_SHARED}.items():
        if (free := _free_bytes(folder)) < least:
            wrong.append(f"{folder}: {format_bytes(free)} are free, expected {format_bytes(least)} or more ({why}).")
    return lines, wrong


def _gpus(wrong: list[str]) -> str:
    """Return the GPUs as the driver, torch and Ray see them; a study uses those that all of them see."""
    there, torchs, rays = names_of_gpus(), torch.cuda.device_count(), gpus_of_ray()
    if there and not torchs:
        wrong.append(
            f"GPUs: the driver has {len(there)}, but torch {torch.__version__} sees none; install a build of torch for "
            "CUDA, or look at CUDA_VISIBLE_DEVICES."
        )
    if torchs != rays:
        wrong.append(f"GPUs: Ray counts {rays:g} and torch {torchs}; a study would use none, or wait for more.")
    return f"{', '.join(there) or 'none'}; torch sees {torchs}, Ray counts {rays:g}"


def _packages(wrong: list[str]) -> str:
    """Return the models whose packages are installed."""
    found = []
    for model in PACKAGES:
        try:
            found += [model] if installed(model) else []
        except ValueError as error:
            wrong.append(str(error))
    return ", ".join(found) or f"none ({install(*PUBLIC)})"


def _hub() -> str:
    """Return whether models could be fetched from the Hugging Face hub."""
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        return "not asked (HF_HUB_OFFLINE)"
    return "answers" if _answers(HUB) else "does not answer: models come from the weights folder and from packages"


def _answers(url: str) -> bool:
    """Return whether a server takes a connection."""
    parts = urlparse(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=PATIENCE_S).close()
    except OSError:
        return False
    return True


def _named(folder: Path) -> str:
    """Return the names in a folder, the first ten of them."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "") or "nothing there"


def _free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk that a folder, which need not exist, lies on."""
    there = next((parent for parent in (folder, *folder.parents) if parent.exists()), None)
    return shutil.disk_usage(there).free if there else 0
