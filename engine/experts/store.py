"""Trajectories on disk: one safetensors file a snapshot, a manifest with checksums beside them, each written whole."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load, save

from engine.experts.trajectory import ExpertId
from engine.files import atomic_path, read_json, write_json
from engine.tensors import Params

FORMAT_VERSION = 1


@dataclass(frozen=True)
class ExpertStore:
    """The folder of all experts of one recipe; also an ``ExpertSource``.

    A snapshot counts once the manifest names it: the file comes first, the manifest is replaced last. Readers therefore
    never see half a snapshot, and an interrupted writer leaves at most a file that nobody names.
    """

    folder: Path

    def describe(self, recipe: Mapping[str, Any]) -> None:
        """Write what these experts were trained with, for people; the folder's name is its digest."""
        if not (self.folder / "recipe.json").exists():
            write_json(self.folder / "recipe.json", dict(recipe))

    def index(self) -> dict[ExpertId, tuple[int, ...]]:
        """Return the epochs of each expert that are whole on disk."""
        folders = sorted(self.folder.glob("expert_*"))
        found = {int(folder.name.removeprefix("expert_")): self.epochs_in(folder) for folder in folders}
        return {expert: epochs for expert, epochs in found.items() if epochs}

    def epochs_in(self, folder: Path) -> tuple[int, ...]:
        """Return the epochs that the manifest in one expert's ``folder`` names."""
        return tuple(sorted(int(epoch) for epoch in _manifest(folder)["snapshots"]))

    def save(self, expert: ExpertId, epoch: int, params: Params) -> None:
        """Write one snapshot and then name it in the expert's manifest."""
        folder = self._expert_folder(expert)
        data = save({name: value.detach().cpu().contiguous() for name, value in params.items()})
        with atomic_path(folder / _file_name(epoch)) as temporary:
            temporary.write_bytes(data)
        manifest = _manifest(folder)
        manifest["snapshots"][str(epoch)] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        write_json(folder / "manifest.json", manifest)

    def load(self, expert: ExpertId, epoch: int) -> Params:
        """Read one snapshot and check it against its manifest; names come sorted, so that sums repeat bitwise.

        Raises:
            FileNotFoundError: the expert has no such snapshot.
            ValueError: the file is not what was written.
        """
        folder = self._expert_folder(expert)
        entry = _manifest(folder)["snapshots"].get(str(epoch))
        path = folder / _file_name(epoch)
        if entry is None or not path.is_file():
            raise FileNotFoundError(f"{path}: expert {expert} has no snapshot of epoch {epoch}.")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise ValueError(
                f"{path}: its checksum is not the one in manifest.json, so the file is damaged; delete {folder}."
            )
        tensors = load(data)  # in an order, and at alignments in memory, that change from call to call
        return {name: tensors[name].clone() for name in sorted(tensors)}

    def _expert_folder(self, expert: ExpertId) -> Path:
        return self.folder / f"expert_{expert:04d}"


def _file_name(epoch: int) -> str:
    return f"epoch_{epoch:04d}.safetensors"


def _manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest in ``folder``, or an empty one.

    Raises:
        ValueError: the manifest is damaged or of a later format.
    """
    path = folder / "manifest.json"
    if not path.exists():
        return {"format_version": FORMAT_VERSION, "snapshots": {}}
    manifest = read_json(path)
    found = manifest if isinstance(manifest, dict) else {}
    if found.get("format_version") != FORMAT_VERSION or not isinstance(found.get("snapshots"), dict):
        version = found.get("format_version")
        raise ValueError(
            f"{path}: expected snapshots and format_version {FORMAT_VERSION}, but it has format_version {version!r}."
        )
    return manifest
