"""Provenance of a result: commit, digests of the source, versions of libraries, device and threads."""

import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engine.io.files import digest

ENGINE = Path(__file__).resolve().parent

PACKAGES = ("torch", "ray", "numpy", "safetensors", "timm", "transformers", "open_clip_torch", "scikit-learn")
"""Packages that decide numbers."""

NUMBERS = (
    *("build.py", "cluster/scoring.py", "coresets", "data", "determinism.py", "distill.py", "evaluation", "experts"),
    *("initial_pairs.py", "losses", "methods", "models", "prepare.py", "ranges.py", "recipes.py", "rewording.py"),
    *("rng.py", "shapes", "synthetic", "tensors.py", "text_spaces.py", "unroll"),
)
"""Files and folders of the engine that decide numbers; a change elsewhere leaves every score as it is."""


def code_digest() -> str:
    """Return a digest of the engine's source, by the names and the contents of its files."""
    return source_digest("")


def numbers_digest() -> str:
    """Return a digest of the part of the engine's source that decides numbers."""
    return source_digest(*NUMBERS)


@cache
def source_digest(*names: str) -> str:
    """Return a digest of files and folders of the engine, which is a part of the keys of what they make."""
    paths = [ENGINE / name for name in names]
    files = sorted(file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py")))
    parts = [part for file in files for part in (file.relative_to(ENGINE).as_posix(), file.read_bytes())]
    return digest(*parts)


@cache
def commit() -> str:
    """Return the commit of this checkout, with ``+changes`` if files differ from it.

    The version of the package is returned where the engine is not at the top of a checkout; a package that is
    installed inside the checkout of another project does not take that project's commit.
    """
    from engine import __version__

    def git(*words: str) -> str:
        command = ["git", "-C", str(ENGINE.parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    unknown = f"version {__version__}"
    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != ENGINE.parent.resolve():
            return unknown
        head = git("rev-parse", "--short=7", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "engine", "tasks", "tune_spaces")
    except (OSError, subprocess.SubprocessError):
        return unknown
    return f"{head}+changes" if changed else head


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide numbers, ``none`` for an absent one."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def changed_inputs(known: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return the names of the inputs whose digests differ, in words; empty if there are none."""
    *names, last = [name for name in now if known.get(name, now[name]) != now[name]] or [""]
    return f"{', '.join(names)} and {last}" if names else last


def processor() -> str:
    """Return the model of this machine's processor, on which the last digits depend, or its kind."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.is_file() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def device_name() -> str:
    """Return the name of the GPU that this process uses, or its processor with the number of torch's threads."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    kernels = torch.backends.cpu.get_cpu_capability()
    return f"{processor()} ({kernels}), {threads} thread{'s' if threads > 1 else ''}"


def provenance() -> dict[str, Any]:
    """Return commit, both digests, versions and device of this process, as values that JSON can hold."""
    return {
        "commit": commit(),
        "code": code_digest(),
        "numbers": numbers_digest(),
        "versions": versions(),
        "device": device_name(),
    }
