"""What a worker needs for its part of a study: the resolved configuration, and where data and results lie."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.config.load import Study, experts_identity
from engine.io.files import digest
from engine.io.paths import Paths
from engine.io.storage import Location

if TYPE_CHECKING:
    from engine.build import Setup


@dataclass(frozen=True)
class Specification:
    """A resolved study, where its data lie, and where its files go; it travels to workers by pickle."""

    study: Study
    paths: Paths
    storage: Location

    def expert_folder(self) -> Location:
        """Return the folder of the trajectories that belong to this configuration."""
        return self.storage / "experts" / experts_identity(self.study)

    def setup(self, device: str | None = None) -> "Setup":
        """Return the data and the student of the study on ``device``; each process keeps the last one that was built.

        Workers pass no device and get their GPU; the driver passes the CPU, so that it holds no memory of a GPU.
        """
        from engine.build import build_setup  # the registry reads specifications, but never builds a model

        key = digest(repr(self.study.data), repr(self.study.student), repr(self.paths), device or "")
        if key not in _built:
            _built.clear()
            _built[key] = build_setup(self.study, self.paths, device)
        return _built[key]


_built: "dict[str, Setup]" = {}
