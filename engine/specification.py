"""What a worker needs of a study: its resolved configuration, the paths of its data, and its storage folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    list_key: str | None = None
    """The key of the list of photos and captions in the storage, which workers read in place of the data set."""

    @property
    def prepared(self) -> Location:
        """The folder of what all nodes see of the prepared data: the list of photos and captions, and shards."""
        return self.storage / "prepared"

    def expert_folder(self) -> Location:
        """Return the folder of this configuration's expert trajectories."""
        return self.storage / "experts" / self.study.experts_identity

    def setup(self, device: str | None = None) -> "Setup":
        """Return the data and the student of the study on ``device``; a process keeps the last ones built.

        What frozen networks make of the data is opened, or made, when it is first read.

        Workers pass no device and get their GPU; the driver passes the CPU, so that it holds no memory of a GPU.
        """
        return self._setups([self], device)[0]

    def of_each_student(self) -> "list[Specification]":
        """Return the specification of each student that the set is learned for, the study's own first."""
        return [replace(self, study=study) for study in self.study.of_each_student()]

    def setups(self, device: str | None = None) -> "list[Setup]":
        """Return the data with each student that the set is learned for, as ``setup`` does."""
        return self._setups(self.of_each_student(), device)

    def keep(self, setups: "Sequence[Setup]") -> None:
        """Keep the setups of each student, which this process has built on the CPU, as those of this specification."""
        _built.update(zip((one._key("cpu") for one in self.of_each_student()), setups, strict=True))

    def _key(self, device: str) -> str:
        """Return what tells the setup from others; a worker that outlives a command may have read other photos."""
        tree = self.study.model_dump(mode="json", include={"data", "student", "precision"})
        places = map(repr, (self.paths, self.storage, self.made_on, self.list_key))
        return digest(device, json.dumps(tree, sort_keys=True), *places)

    @staticmethod
    def _setups(wanted: "Sequence[Specification]", device: str | None) -> "list[Setup]":
        from engine import build  # the registry reads specifications and never loads torch's models
        from engine.prepare import Place

        name = device or str(build.default_device())
        keys = [one._key(name) for one in wanted]
        if not _built.keys() >= set(keys):
            for key in _built.keys() - keys:
                del _built[key]
        for key, one in zip(keys, wanted, strict=True):
            if key not in _built:
                place = Place(one.paths.cache, one.prepared, one.made_on, one.list_key)
                _built[key] = build.build_setup(one.study, one.paths, name, place)
        return [_built[key] for key in keys]


_built: "dict[str, Setup]" = {}
