"""Expert trajectories on disk: one safetensors file a snapshot, and a manifest with checksums for each expert."""

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from engine.experts.trajectory import ExpertId
from engine.io.files import atomic_path, digest, exclusive, read_json, write_json
from engine.io.storage import Location, read_whole
from engine.provenance import changed_inputs
from engine.tensors import Params, check_finite

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
RECIPE = "recipe.json"
CURVE = "curve.json"
LOCK = ".lock"
ADVICE = "experts.damaged=retrain trains it again"
EXPECTED = f"expected snapshots and format_version {FORMAT_VERSION}"


class DamagedError(ValueError):
    """A file on disk differs from what was written; ``epoch`` is the first one that has to be trained again."""

    def __init__(self, message: str, epoch: int = 0) -> None:  # the default lets it travel by pickle
        super().__init__(message)
        self.epoch = epoch


@dataclass(frozen=True)
class ExpertStore:
    """The folder of all experts of one recipe; also an ``ExpertSource``.

    A snapshot counts once the manifest names it: its file is written first, and the manifest is replaced last. Readers
    never see half a snapshot, and an interrupted writer leaves at most a file that no manifest names. Writers of one
    expert wait for each other. A store outlives the code that trained it, since training takes hours: ``recipe.json``
    names the code, versions and device of the first process that trained into it.
    """

    folder: Location

    def describe(self, recipe: Mapping[str, Any], provenance: Mapping[str, Any], inputs: Mapping[str, str]) -> None:
        """Write the recipe, the process and the inputs of the experts, unless ``recipe.json`` exists."""
        if not (self.folder / RECIPE).exists():
            described = {"recipe": dict(recipe), "provenance": dict(provenance), "inputs": dict(inputs)}
            write_json(self.folder / RECIPE, described)

    def check_inputs(self, inputs: Mapping[str, str]) -> None:
        """Check that the experts, if there are any, were trained on these inputs; imported ones do not say.

        Raises:
            ValueError: photos, captions or weights have changed since.
        """
        if changed := self._changed(inputs):
            raise ValueError(
                f"{self.folder}: its experts were trained on other {changed} than the study reads now; distill --fresh "
                "sets them aside and trains new ones, or name another storage."
            )

    def set_aside(self, inputs: Mapping[str, str]) -> Location | None:
        """Rename the folder if its experts were trained on other inputs, and return its new name, else None.

        Raises:
            ValueError: they were, and the folder is in an object store, which renames nothing.
        """
        if not self._changed(inputs):
            return None
        if isinstance(folder := self.folder, Path):
            names = (folder.with_name(f"{folder.name}-before-{number}") for number in itertools.count(1))
            return folder.rename(next(name for name in names if not name.exists()))
        self.check_inputs(inputs)
        return None

    def _changed(self, inputs: Mapping[str, str]) -> str:
        """Return which inputs are others than those of the experts, in words; empty where the experts do not say."""
        try:
            return changed_inputs(read_json(self.folder / RECIPE)["inputs"], inputs)
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return ""

    def index(self) -> dict[ExpertId, tuple[int, ...]]:
        """Return the epochs of each expert that its manifest names."""
        found = {expert: tuple(_snapshots(self._expert_folder(expert))) for expert in self.experts()}
        return {expert: epochs for expert, epochs in found.items() if epochs}

    def experts(self) -> list[ExpertId]:
        """Return the experts that have a folder, also an empty one."""
        names = [folder.name.removeprefix("expert_") for folder in self.folder.glob("expert_*") if folder.is_dir()]
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def save(self, expert: ExpertId, epoch: int, params: Params) -> None:
        """Write one snapshot and then name it in the expert's manifest.

        A different snapshot of the same epoch is of another training run: it and all later ones are forgotten first.
        """
        folder = self._expert_folder(expert)
        data = save({name: value.detach().cpu().contiguous() for name, value in params.items()})
        entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        with exclusive(folder / LOCK):
            if _snapshots(folder).get(epoch, entry) != entry:
                _forget_from(folder, epoch)
            with atomic_path(folder / _file_name(epoch)) as temporary:
                temporary.write_bytes(data)
            _write_manifest(folder, {**_snapshots(folder), epoch: entry})

    def record(self, expert: ExpertId, epoch: int, numbers: Mapping[str, float]) -> None:
        """Keep the numbers of an epoch beside its snapshot, in ``curve.json``; those of later epochs are forgotten."""
        earlier = {key: known for key, known in self.curve(expert).items() if key < epoch}
        write_json(
            self._expert_folder(expert) / CURVE, {str(key): one for key, one in {**earlier, epoch: numbers}.items()}
        )

    def curve(self, expert: ExpertId) -> dict[int, dict[str, float]]:
        """Return what ``record`` kept of one expert, by epoch; empty where that was nothing, or cannot be read."""
        try:
            return {
                int(epoch): dict(numbers) for epoch, numbers in read_json(self._expert_folder(expert) / CURVE).items()
            }
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            return {}

    def load(self, expert: ExpertId, epoch: int) -> Params:
        """Read one snapshot and compare it with its checksum; names are sorted, so that sums repeat bitwise.

        Raises:
            FileNotFoundError: the expert has no such snapshot.
            DamagedError: the file differs from what was written.
            ValueError: it is no safetensors file, or a number in it is not finite.
        """
        file = self._expert_folder(expert) / _file_name(epoch)
        try:
            tensors = load(self._bytes(expert, epoch))  # their order and alignment differ from call to call
        except SafetensorError as error:
            raise ValueError(f"{file}: expected a snapshot in safetensors, but {error}.") from error
        for name, value in tensors.items():
            check_finite(f"{file}: {name}", value)
        return {name: tensors[name].clone() for name in sorted(tensors)}

    def checksum(self, expert: ExpertId, epoch: int) -> str:
        """Return the checksum of one snapshot in the manifest; empty if it has none.

        Raises:
            DamagedError: the manifest differs from what was written.
        """
        entry = _snapshots(self._expert_folder(expert)).get(epoch)
        return str(entry["sha256"]) if entry else ""

    def check(self, expert: ExpertId) -> None:
        """Compare every snapshot in the manifest of one expert with its checksum.

        Raises:
            DamagedError: a file is absent or differs from what was written; the message names the first one.
            ValueError: the manifest is of a later format.
        """
        folder = self._expert_folder(expert)
        for expected, epoch in enumerate(_snapshots(folder)):
            if epoch != expected:
                message = (
                    f"{folder / MANIFEST}: expected an entry of epoch {expected} before that of {epoch}; {ADVICE}."
                )
                raise DamagedError(message, epoch=expected)
            try:
                self._bytes(expert, epoch)
            except FileNotFoundError as error:
                raise DamagedError(str(error), epoch=epoch) from error

    def written(self, expert: ExpertId) -> str:
        """Return a digest of one expert's manifest; empty if there is none."""
        try:
            return digest(read_whole(self._expert_folder(expert) / MANIFEST))
        except FileNotFoundError:
            return ""

    def forget_from(self, expert: ExpertId, epoch: int) -> None:
        """Delete the snapshots of one expert from ``epoch`` on; with 0, the manifest may be damaged."""
        folder = self._expert_folder(expert)
        with exclusive(folder / LOCK):
            _forget_from(folder, epoch)

    def sweep(self) -> None:
        """Delete the temporary files of killed writers; only the holder of the store's lease may call it."""
        for path in self.folder.glob("expert_*/.*"):
            if path.name != LOCK:
                path.unlink(missing_ok=True)

    def _bytes(self, expert: ExpertId, epoch: int) -> bytes:
        """Return the bytes of one snapshot, after comparing them with their checksum."""
        folder = self._expert_folder(expert)
        path, entry = folder / _file_name(epoch), _snapshots(folder).get(epoch)
        if entry is None or not path.is_file():
            raise FileNotFoundError(f"{path}: expert {expert} has no snapshot of epoch {epoch}.")
        data = read_whole(path)
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            message = f"{path}: its checksum is not the one in manifest.json, so the file is damaged; {ADVICE}."
            raise DamagedError(message, epoch=epoch)
        return data

    def _expert_folder(self, expert: ExpertId) -> Location:
        return self.folder / f"expert_{expert:04d}"


def _file_name(epoch: int) -> str:
    return f"epoch_{epoch:04d}.safetensors"


def _forget_from(folder: Location, epoch: int) -> None:
    """Take snapshots out of a manifest, and then delete their files, so that it never names an absent one."""
    if epoch == 0:
        (folder / MANIFEST).unlink(missing_ok=True)
    else:
        _write_manifest(folder, {key: entry for key, entry in _snapshots(folder).items() if key < epoch})
    for path in folder.glob("epoch_*.safetensors"):
        number = path.stem.removeprefix("epoch_")
        if not number.isdigit() or int(number) >= epoch:
            path.unlink(missing_ok=True)


def _write_manifest(folder: Location, snapshots: Mapping[int, Any]) -> None:
    entries = {str(epoch): entry for epoch, entry in snapshots.items()}
    write_json(folder / MANIFEST, {"format_version": FORMAT_VERSION, "snapshots": entries})


def _snapshots(folder: Location) -> dict[int, Any]:
    """Return the entries of the manifest in ``folder`` by epoch in ascending order, none without a manifest.

    Raises:
        DamagedError: the manifest differs from what was written.
        ValueError: it is of a later format.
    """
    path = folder / MANIFEST
    if not path.exists():
        return {}
    try:
        manifest = read_json(path)
    except ValueError as error:
        raise DamagedError(str(error), epoch=0) from error
    found = manifest if isinstance(manifest, dict) else {}
    version, snapshots = found.get("format_version"), found.get("snapshots")
    if type(version) is int and version > FORMAT_VERSION:
        raise ValueError(f"{path}: {EXPECTED}, but it has format_version {version}, which a later version wrote.")
    if type(version) is not int or version != FORMAT_VERSION or not isinstance(snapshots, dict):
        raise DamagedError(f"{path}: {EXPECTED}, but it has format_version {version!r}.", epoch=0)
    for epoch, entry in snapshots.items():
        if not (epoch.isascii() and epoch.isdigit() and isinstance(entry, dict) and "sha256" in entry):
            raise DamagedError(f"{path}: {EXPECTED}, but it has no checksum for {epoch!r}; {ADVICE}.", epoch=0)
    return {int(epoch): snapshots[epoch] for epoch in sorted(snapshots, key=int)}
