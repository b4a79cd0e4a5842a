"""What made a result: the commit, a digest of the engine's source, versions of libraries, device and threads."""

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engine.io.files import digest

ENGINE = Path(__file__).resolve().parent

PACKAGES = ("torch", "ray", "numpy", "safetensors", "timm", "transformers", "open_clip_torch", "scikit-learn")
"""Packages that decide numbers."""


@cache
def code_digest() -> str:
    """Return a digest of the engine's own source, by the names and the contents of its files."""
    files = sorted(ENGINE.rglob("*.py"))
    parts = [part for file in files for part in (file.relative_to(ENGINE).as_posix().encode(), file.read_bytes())]
    return digest(*parts)


@cache
def commit() -> str:
    """Return the commit that this code was checked out at, ``+changes`` behind it where files differ from it.

    Without a git checkout around the engine it is the version of the package.
    """
    from engine import __version__

    try:
        head = _git("rev-parse", "--short=7", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "engine", "tasks", "tune_spaces")
    except (OSError, subprocess.SubprocessError):
        return f"version {__version__}"
    return f"{head}+changes" if changed else head


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ENGINE.parent), *words], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide numbers, ``none`` for one that is absent."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def device_name() -> str:
    """Return the GPU that this process uses, or its processor, with the threads of torch."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU {platform.machine()} ({torch.backends.cpu.get_cpu_capability()}), {torch.get_num_threads()} threads"


def provenance() -> dict[str, Any]:
    """Return everything above as plain values that JSON can hold, as of this process."""
    return {"commit": commit(), "code": code_digest(), "versions": versions(), "device": device_name()}
