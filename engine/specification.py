"""What a worker needs of a study: its resolved configuration, the paths of its data, and its storage folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.config.schema import Resolved
from engine.io.files import digest
from engine.io.paths import Paths
from engine.io.storage import Location

if TYPE_CHECKING:
    from engine.build import Setup


@dataclass(frozen=True)
class Specification:
    """A resolved study with the paths of its data and its storage folder; Ray sends it to workers."""

    study: Resolved
    paths: Paths
    storage: Location
    made_on: str = "cpu"
    """The kind of device that makes what frozen networks make of the data."""

    def expert_folder(self) -> Location:
        """Return the folder of this configuration's expert trajectories."""
        return self.storage / "experts" / self.study.experts_identity

    @property
    def cache_is_shared(self) -> bool:
        """Whether all nodes see this machine's cache: it lies in the storage, which all see."""
        return isinstance(self.storage, Path) and self.paths.cache.is_relative_to(self.storage)

    def setup(self, device: str | None = None) -> "Setup":
        """Return the data and the student of the study on ``device``; a process keeps the last ones built.

        What frozen networks make of the data is opened, or made, when it is first read.

        Workers pass no device and get their GPU; the driver passes the CPU, so that it holds no memory of a GPU.
        """
        from engine import build  # the registry reads specifications and never loads torch's models
        from engine.prepare import Place

        name = device or str(build.default_device())
        place = Place(self.paths.cache, self.storage / "prepared", self.made_on)
        given = self.study.data, self.study.student, self.study.precision, self.paths, place, name
        key = digest(*map(repr, given))
        if key not in _built:
            _built.clear()
            _built[key] = build.build_setup(self.study, self.paths, name, place)
        return _built[key]


_built: "dict[str, Setup]" = {}
