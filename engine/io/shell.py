"""Lines for a person to type: programs of this environment as the shell finds them from here."""

import shlex
import shutil
import sys
from pathlib import Path


def program(name: str) -> str:
    """Return the words by which a shell in this folder starts a program of this environment, or else its module."""
    own = Path(sys.executable).with_name(name)
    module = "" if own.is_file() else f" -m {name}"
    own = Path(sys.executable) if module else own
    found = shutil.which(own.name)
    by_name = found is not None and Path(found).parent.samefile(own.parent)
    return f"{own.name if by_name else shlex.quote(near(own))}{module}"


def near(path: Path) -> str:
    """Return a path as a person would type it here: relative where it lies below the folder of this process."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
