"""Trajectories on disk: one safetensors file a snapshot, a manifest with checksums beside them, each written whole."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safetensors.torch import load, save

from engine.experts.trajectory import ExpertId
from engine.io.files import atomic_path, digest, exclusive, read_json, write_json
from engine.io.storage import Location, read_whole
from engine.tensors import Params

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
LOCK = ".lock"
ADVICE = "experts.damaged=retrain trains it again"


class DamagedError(ValueError):
    """What lies on disk is not what was written; ``epoch`` is the first one that has to be trained again."""

    def __init__(self, message: str, epoch: int = 0) -> None:  # with a default, for it travels by pickle
        super().__init__(message)
        self.epoch = epoch


@dataclass(frozen=True)
class ExpertStore:
    """The folder of all experts of one recipe; also an ``ExpertSource``.

    A snapshot counts once the manifest names it: the file comes first, the manifest is replaced last. Readers therefore
    never see half a snapshot, and an interrupted writer leaves at most a file that nobody names. Writers of one expert
    wait for each other, so that none of them loses what another one named.
    """

    folder: Location

    def describe(self, recipe: Mapping[str, Any]) -> None:
        """Write what these experts were trained with, for people; the folder's name is its digest."""
        if not (self.folder / "recipe.json").exists():
            write_json(self.folder / "recipe.json", dict(recipe))

    def index(self) -> dict[ExpertId, tuple[int, ...]]:
        """Return the epochs of each expert that are whole on disk."""
        found = {expert: self.epochs_in(self._expert_folder(expert)) for expert in self.experts()}
        return {expert: epochs for expert, epochs in found.items() if epochs}

    def experts(self) -> list[ExpertId]:
        """Return the experts that have a folder, whatever lies in it."""
        names = [folder.name.removeprefix("expert_") for folder in self.folder.glob("expert_*") if folder.is_dir()]
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def epochs_in(self, folder: Location) -> tuple[int, ...]:
        """Return the epochs that the manifest in one expert's ``folder`` names."""
        return tuple(sorted(int(epoch) for epoch in _manifest(folder)["snapshots"]))

    def save(self, expert: ExpertId, epoch: int, params: Params) -> None:
        """Write one snapshot and then name it in the expert's manifest.

        Another snapshot in the place of one that is there belongs to another course of training: the one that is there,
        and all later ones, are forgotten first.
        """
        folder = self._expert_folder(expert)
        data = save({name: value.detach().cpu().contiguous() for name, value in params.items()})
        entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        with exclusive(folder / LOCK):
            if _manifest(folder)["snapshots"].get(str(epoch), entry) != entry:
                _forget_from(folder, epoch)
            with atomic_path(folder / _file_name(epoch)) as temporary:
                temporary.write_bytes(data)
            manifest = _manifest(folder)
            manifest["snapshots"][str(epoch)] = entry
            write_json(folder / MANIFEST, manifest)

    def load(self, expert: ExpertId, epoch: int) -> Params:
        """Read one snapshot and check it against its manifest; names come sorted, so that sums repeat bitwise.

        Raises:
            FileNotFoundError: the expert has no such snapshot.
            DamagedError: the file is not what was written.
        """
        tensors = load(self._bytes(expert, epoch))  # in an order, and aligned in memory, as differs from call to call
        return {name: tensors[name].clone() for name in sorted(tensors)}

    def check(self, expert: ExpertId) -> None:
        """Read everything that the manifest of one expert names, and compare the checksums.

        Raises:
            DamagedError: something is absent or not what was written; the sentence names the first such file.
            ValueError: the manifest is of a later format.
        """
        for expected, epoch in enumerate(self.epochs_in(self._expert_folder(expert))):
            if epoch != expected:
                path = self._expert_folder(expert) / MANIFEST
                raise DamagedError(
                    f"{path}: expected an entry of epoch {expected} before that of {epoch}; {ADVICE}.", epoch=expected
                )
            try:
                self._bytes(expert, epoch)
            except FileNotFoundError as error:
                raise DamagedError(str(error), epoch=epoch) from error

    def written(self, expert: ExpertId) -> str:
        """Return what changes whenever one expert's manifest does; empty where there is none."""
        try:
            return digest(read_whole(self._expert_folder(expert) / MANIFEST))
        except FileNotFoundError:
            return ""

    def forget_from(self, expert: ExpertId, epoch: int) -> None:
        """Forget the snapshots of one expert from ``epoch`` on; a manifest that cannot be read is forgotten whole."""
        folder = self._expert_folder(expert)
        with exclusive(folder / LOCK):
            _forget_from(folder, epoch)

    def sweep(self) -> None:
        """Delete what killed writers left; only who holds the store's lease may, for a writer's file looks the same."""
        for path in self.folder.glob("expert_*/.*"):
            if path.name != LOCK:
                path.unlink(missing_ok=True)

    def _bytes(self, expert: ExpertId, epoch: int) -> bytes:
        """Return the bytes of one snapshot, which are those that were written."""
        folder = self._expert_folder(expert)
        entry = _manifest(folder)["snapshots"].get(str(epoch))
        path = folder / _file_name(epoch)
        if entry is None or not path.is_file():
            raise FileNotFoundError(f"{path}: expert {expert} has no snapshot of epoch {epoch}.")
        data = read_whole(path)
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise DamagedError(
                f"{path}: its checksum is not the one in manifest.json, so the file is damaged; {ADVICE}.", epoch=epoch
            )
        return data

    def _expert_folder(self, expert: ExpertId) -> Location:
        return self.folder / f"expert_{expert:04d}"


def _file_name(epoch: int) -> str:
    return f"epoch_{epoch:04d}.safetensors"


def _forget_from(folder: Location, epoch: int) -> None:
    """Take snapshots out of a manifest and then delete their files, so that it never names what is gone."""
    if epoch == 0:
        (folder / MANIFEST).unlink(missing_ok=True)
    else:
        manifest = _manifest(folder)
        kept = {key: entry for key, entry in manifest["snapshots"].items() if int(key) < epoch}
        write_json(folder / MANIFEST, {**manifest, "snapshots": kept})
    for path in folder.glob("epoch_*.safetensors"):
        number = path.stem.removeprefix("epoch_")
        if not number.isdigit() or int(number) >= epoch:
            path.unlink(missing_ok=True)


def _manifest(folder: Location) -> dict[str, Any]:
    """Return the manifest in ``folder``, or an empty one.

    Raises:
        DamagedError: the manifest is not what was written.
        ValueError: it is of a later format.
    """
    path = folder / MANIFEST
    if not path.exists():
        return {"format_version": FORMAT_VERSION, "snapshots": {}}
    try:
        manifest = read_json(path)
    except ValueError as error:
        raise DamagedError(str(error), epoch=0) from error
    found = manifest if isinstance(manifest, dict) else {}
    version, snapshots = found.get("format_version"), found.get("snapshots")
    if type(version) is int and version > FORMAT_VERSION:
        raise ValueError(f"{path}: {_EXPECTED}, but it has format_version {version}, which a later version wrote.")
    if type(version) is not int or version != FORMAT_VERSION or not isinstance(snapshots, dict):
        raise DamagedError(f"{path}: {_EXPECTED}, but it has format_version {version!r}.", epoch=0)
    for epoch, entry in snapshots.items():
        if not (epoch.isascii() and epoch.isdigit() and isinstance(entry, dict) and "sha256" in entry):
            raise DamagedError(f"{path}: {_EXPECTED}, but it has no checksum for {epoch!r}; {ADVICE}.", epoch=0)
    return found


_EXPECTED = f"expected snapshots and format_version {FORMAT_VERSION}"
