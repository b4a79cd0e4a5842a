"""The registry: a detached, named actor that owns the trajectories in the object store and has missing ones trained.

Disk is the truth and the object store a cache: snapshots are put there, as numpy arrays that every process of a node
maps without a copy, when they are first asked for. The registry itself puts them and so owns them: they outlive
experts, drivers and trials.
"""

import threading
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray import ObjectRef
from ray.actor import ActorHandle

from engine.cluster.expert_pool import train_in_pool
from engine.cluster.specification import Specification
from engine.experts.store import FORMAT_VERSION, ExpertStore
from engine.experts.trajectory import ExpertId
from engine.files import digest
from engine.tensors import Params

NAMESPACE = "vldistill"


class TrajectoryRegistry:
    """The actor's class; its methods run in several threads, ``ensure`` one at a time."""

    def __init__(self, folder: Path) -> None:
        self.store = ExpertStore(folder)
        self.progress_of: dict[ExpertId, float] = {}
        self._refs: dict[tuple[ExpertId, int], ObjectRef] = {}
        self._training = threading.Lock()
        self._putting = threading.Lock()

    def ensure(
        self, specification: Specification, *, count: int, epochs: int, resources: dict[str, float], at_once: int
    ) -> dict[ExpertId, tuple[int, ...]]:
        """Have the experts 0 .. count - 1 trained up to ``epochs``, as far as the store lacks them, in parallel actors.

        Returns the epochs of these experts. An expert whose training fails does not keep the others from being stored.

        Raises:
            ValueError: an expert cannot be trained as it is configured.
            RuntimeError: an expert could not be trained.
        """
        with self._training:
            index = self.store.index()
            self.progress_of = {e: float(max(index.get(e, (0,)))) for e in range(count)}
            missing = [e for e in range(count) if max(index.get(e, (-1,))) < epochs]
            own = ray.get_runtime_context().current_actor
            train_in_pool(specification, missing, epochs=epochs, resources=resources, at_once=at_once, registry=own)
        return {e: epochs_of for e, epochs_of in self.store.index().items() if e < count}

    def report(self, expert: ExpertId, done: float) -> None:
        """Take note of how many epochs an expert has finished, fractions included."""
        self.progress_of[expert] = done

    def progress(self) -> dict[ExpertId, float]:
        """Return how many epochs each expert has finished, fractions included."""
        return dict(self.progress_of)

    def index(self) -> dict[ExpertId, tuple[int, ...]]:
        """Return the epochs of each expert on disk."""
        return self.store.index()

    def snapshot(self, expert: ExpertId, epoch: int) -> list[ObjectRef]:
        """Return the reference of one snapshot, in a list so that Ray does not resolve it on the way."""
        with self._putting:
            if (expert, epoch) not in self._refs:
                params = self.store.load(expert, epoch)
                self._refs[expert, epoch] = ray.put({name: value.numpy() for name, value in params.items()})
        return [self._refs[expert, epoch]]


def registry_name(folder: Path) -> str:
    """Return the name of the registry of a store; it changes with the store's place, its format and our version."""
    from engine import __version__

    return f"trajectories-{digest(str(folder), str(FORMAT_VERSION), __version__)}"


def get_registry(folder: Path) -> ActorHandle:
    """Return the registry of the store in ``folder``, starting it where it does not run yet."""
    return (
        ray.remote(TrajectoryRegistry)
        .options(
            name=registry_name(folder),
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_concurrency=16,
        )
        .remote(folder)
    )


@dataclass(frozen=True)
class RemoteSource:
    """Trajectories read from a registry; a snapshot is fetched once a node and then shared by its processes."""

    registry: ActorHandle
    epochs: dict[ExpertId, tuple[int, ...]]
    timeout: float = 300.0
    _loaded: dict[tuple[ExpertId, int], Params] = field(default_factory=dict)

    def index(self) -> dict[ExpertId, tuple[int, ...]]:
        """Return the epochs of each expert."""
        return self.epochs

    def load(self, expert: ExpertId, epoch: int) -> Params:
        """Return one snapshot as tensors that alias the object store: writing to them would change it for everybody."""
        if (expert, epoch) not in self._loaded:
            [reference] = ray.get(self.registry.snapshot.remote(expert, epoch), timeout=self.timeout)
            arrays: dict[str, np.ndarray] = ray.get(reference, timeout=self.timeout)
            self._loaded[expert, epoch] = {name: _alias(array) for name, array in arrays.items()}
        return self._loaded[expert, epoch]


def _alias(array: Any) -> torch.Tensor:
    """Return a tensor over a read-only array without copying it (and without torch's warning about just that)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
