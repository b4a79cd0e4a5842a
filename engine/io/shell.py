"""Lines for a person to type: programs of this environment as the shell finds them from here."""

import shlex
import shutil
import sys
from pathlib import Path


def program(name: str) -> str:
    """Return what a shell in this folder runs a program of this environment by, or its module where it has none."""
    own = Path(sys.executable).with_name(name)
    return _typed(own) if own.is_file() else f"{_typed(Path(sys.executable))} -m {name}"


def _typed(own: Path) -> str:
    """Return the name of a program where the shell finds this one by it, else its path."""
    found = shutil.which(own.name)
    return own.name if found and Path(found).parent.samefile(own.parent) else shlex.quote(near(own))


def near(path: Path) -> str:
    """Return a path as a person would type it here: relative where it lies below the folder of this process."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
