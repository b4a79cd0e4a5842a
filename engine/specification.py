"""What a worker needs of a study: its resolved configuration, the paths of its data, and its storage folder."""

from dataclasses import dataclass
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

    def expert_folder(self) -> Location:
        """Return the folder of this configuration's expert trajectories."""
        return self.storage / "experts" / self.study.experts_identity

    def setup(self, device: str | None = None) -> "Setup":
        """Return the data and the student of the study on ``device``; a process keeps the last ones built.

        Workers pass no device and get their GPU; the driver passes the CPU, so that it holds no memory of a GPU.
        """
        from engine import build  # the registry reads specifications and never loads torch's models

        name = device or str(build.default_device())
        key = digest(repr(self.study.data), repr(self.study.student), repr(self.paths), self.study.precision, name)
        if key not in _built:
            _built.clear()
            _built[key] = build.build_setup(self.study, self.paths, name)
        return _built[key]


_built: "dict[str, Setup]" = {}
