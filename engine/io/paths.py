"""Folders of data, weights and caches on this machine; results never contain these paths."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Paths:
    """The folders of relative names."""

    data: Path
    weights: Path
    cache: Path

    def data_path(self, name: str) -> Path:
        """Return the path of ``name`` in the data folder, or an absolute ``name`` itself; it need not exist."""
        return self.data / os.path.expanduser(name)  # that of pathlib fails for a user who is not known

    def weights_path(self, name: str) -> Path | None:
        """Return the file or folder in the weights folder with the last part of ``name``, or None if there is none.

        An absolute path is returned itself; ``sentence-transformers/all-MiniLM-L6-v2`` becomes
        ``<weights>/all-MiniLM-L6-v2``. The hub is asked for names that are not here.
        """
        given = Path(os.path.expanduser(name))
        local = given if given.is_absolute() else self.weights / given.name
        return local if os.path.exists(local) else None  # that of pathlib fails for a name that is too long


def without_folders(tree: Any) -> Any:
    """Return values of JSON with the last part alone of every text that is an absolute path or one below a home."""
    if isinstance(tree, dict):
        return {key: without_folders(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [without_folders(value) for value in tree]
    return Path(tree).name if isinstance(tree, str) and tree[:1] in ("/", "~") else tree


def default_paths(storage: Path) -> Paths:
    """Return the folders of ``VLDD_DATA``, ``VLDD_WEIGHTS`` and ``VLDD_CACHE``.

    The defaults are ``./data``, ``./weights`` and ``<storage>/cache``.
    """
    return Paths(
        data=Path(os.environ.get("VLDD_DATA", "data")).absolute(),
        weights=Path(os.environ.get("VLDD_WEIGHTS", "weights")).absolute(),
        cache=Path(os.environ.get("VLDD_CACHE", storage / "cache")).absolute(),
    )


def ray_folder() -> Path:
    """Return the folder of Ray's temporary files, which Ray deletes."""
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()).absolute() / "ray"
