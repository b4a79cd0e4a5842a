"""Where data, weights and caches lie on this machine; no path of a machine is ever in a file."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """Folders below which relative names are looked up."""

    data: Path
    weights: Path
    cache: Path

    def data_path(self, name: str) -> Path:
        """Return ``name`` itself when absolute, else below the data folder; it need not exist."""
        return self.data / Path(name).expanduser()

    def weights_path(self, name: str) -> Path | None:
        """Return the file or folder called like the last part of ``name``, or None when there is none here.

        An absolute path stands for itself; ``sentence-transformers/all-MiniLM-L6-v2`` is looked up as
        ``<weights>/all-MiniLM-L6-v2`` and otherwise left to the hub.
        """
        given = Path(name).expanduser()
        local = given if given.is_absolute() else self.weights / given.name
        return local if local.exists() else None


def default_paths(storage: Path) -> Paths:
    """Return the places given by ``VLDD_DATA``, ``VLDD_WEIGHTS`` and ``VLDD_CACHE`` or their defaults.

    The defaults are ``./data``, ``./weights`` and ``<storage>/cache``.
    """
    return Paths(
        data=Path(os.environ.get("VLDD_DATA", "data")).absolute(),
        weights=Path(os.environ.get("VLDD_WEIGHTS", "weights")).absolute(),
        cache=Path(os.environ.get("VLDD_CACHE", storage / "cache")).absolute(),
    )
