"""What a worker needs to know to do its part of a study: plain values that travel by pickle."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.config import Study, experts_identity, resolve
from engine.files import digest
from engine.places import Places
from engine.storage import Location

if TYPE_CHECKING:
    from engine.assemble import Problem


@dataclass(frozen=True)
class Specification:
    """A resolved configuration as plain values, where data lies, and where the study's files go."""

    study: dict[str, Any]
    places: Places
    storage: Location

    def load(self) -> Study:
        """Return the configuration."""
        return resolve(Study.model_validate(self.study))

    def expert_folder(self) -> Location:
        """Return the folder of the trajectories that belong to this configuration."""
        return self.storage / "experts" / experts_identity(self.load())

    def problem(self) -> "Problem":
        """Return the assembled data and student; one process keeps the last one that it was asked for."""
        from engine.assemble import assemble  # the registry needs specifications, but never a model

        key = digest(repr(self.study["data"]), repr(self.study["student"]), repr(self.places))
        if key not in _assembled:
            _assembled.clear()
            _assembled[key] = assemble(self.load(), self.places)
        return _assembled[key]


_assembled: "dict[str, Problem]" = {}
