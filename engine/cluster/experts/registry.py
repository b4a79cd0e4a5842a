"""The registry: a detached, named actor that owns the trajectories in the object store and has missing ones trained.

Disk is the truth and the object store a cache: snapshots are put there, as numpy arrays that every process of a node
maps without a copy, when they are first asked for. The registry itself puts them and so owns them: they outlive
experts, drivers and trials. A registry that dies is started again and reads the disk; one that nobody asks ends itself.
"""

import os
import platform
import threading
import time
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
import torch
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, ObjectLostError, RayActorError

from engine.cluster.experts.pool import train_in_pool
from engine.experts.lease import Holder, Lease
from engine.experts.store import FORMAT_VERSION, DamagedError, ExpertStore
from engine.experts.trajectory import ExpertId
from engine.io.files import digest
from engine.io.storage import Location
from engine.specification import Specification
from engine.tensors import Params

NAMESPACE = "vldistill"
IDLE_S = 1800.0
"""After how many seconds without a question a registry ends; whoever needs it then starts it again."""

RETRIES = 3
LOST = (RayActorError, ObjectLostError, GetTimeoutError)
"""What a reader meets when the registry, or its node, died; it is asked again once it is back."""


class TrajectoryRegistry:
    """The actor's class; its methods run in several threads, ``ensure`` one at a time."""

    def __init__(self, folder: Location, idle_s: float = IDLE_S) -> None:
        self.store = ExpertStore(folder)
        self.progress_of: dict[ExpertId, float] = {}
        self.waits_for: Holder | None = None
        self._refs: dict[tuple[ExpertId, int], ObjectRef] = {}
        self._whole: dict[ExpertId, str] = {}
        self._stops: dict[str, threading.Event] = {}
        self._training = threading.Lock()
        self._putting = threading.Lock()
        self._asked = time.monotonic()
        threading.Thread(target=self._end_when_idle, args=(idle_s,), name="engine-idle", daemon=True).start()

    def ensure(
        self,
        specification: Specification,
        *,
        count: int,
        epochs: int,
        resources: dict[str, float],
        at_once: int,
        caller: str,
    ) -> dict[ExpertId, tuple[int, ...]]:
        """Have the experts 0 .. count - 1 trained up to ``epochs``, as far as the store lacks them, in parallel actors.

        Returns the epochs of these experts. An expert whose training fails does not keep the others from being stored.
        Of several registries of one store, in other clusters, one trains and the others wait for what it leaves.
        ``caller`` is how ``stop`` names this call.

        Raises:
            ValueError: an expert cannot be trained as it is configured, or is damaged and not to be trained again.
            RuntimeError: an expert could not be trained, or training was stopped.
        """
        stop = self._stops.setdefault(caller, threading.Event())
        try:
            with self._training:
                if self._missing(specification, count, epochs):
                    lease = Lease(self.store.folder / "lease.json")
                    with lease.held(on_wait=lambda holder: self._wait(holder, stop), on_loss=stop.set):
                        self.waits_for = None
                        self.store.sweep()
                        missing = self._missing(specification, count, epochs)
                        own = ray.get_runtime_context().current_actor
                        train_in_pool(specification, missing, epochs=epochs, resources=resources, at_once=at_once,
                                      registry=own, stop=stop)  # fmt: skip
        finally:
            self.waits_for = None
            self._stops.pop(caller, None)
            self._asked = time.monotonic()
        return {e: epochs_of for e, epochs_of in self.store.index().items() if e < count}

    def _missing(self, specification: Specification, count: int, epochs: int) -> list[ExpertId]:
        """Return the experts to train, after forgetting what is damaged (or refusing it, as the study says)."""
        for expert in range(count):
            self._check(expert, retrain=specification.study.experts.damaged == "retrain")
        index = self.store.index()
        self.progress_of = {e: float(max(index.get(e, (0,)))) for e in range(count)}
        return [e for e in range(count) if max(index.get(e, (-1,))) < epochs]

    def _check(self, expert: ExpertId, *, retrain: bool) -> None:
        """Compare one expert's snapshots with their checksums, unless its manifest is as it was then."""
        written = self.store.written(expert)
        if self._whole.get(expert) == written:
            return
        try:
            self.store.check(expert)
        except DamagedError as error:
            if not retrain:
                raise
            self.store.forget_from(expert, error.epoch)
        self._whole[expert] = self.store.written(expert)

    def _wait(self, holder: Holder, stop: threading.Event) -> None:
        """Tell who trains into the store, elsewhere, until it is done."""
        if stop.is_set():
            raise RuntimeError("the training of experts was stopped; repeat the command to go on.")
        self.waits_for = holder
        self.progress_of |= {e: float(epochs[-1]) for e, epochs in self.store.index().items() if e in self.progress_of}

    def stop(self, caller: str) -> None:
        """Let one call of ``ensure`` end early; what its experts have finished stays."""
        self._stops.setdefault(caller, threading.Event()).set()

    def report(self, expert: ExpertId, done: float) -> None:
        """Take note of how many epochs an expert has finished, fractions included."""
        self.progress_of[expert] = done

    def progress(self) -> dict[ExpertId, float]:
        """Return how many epochs each expert has finished, fractions included."""
        return dict(self.progress_of)

    def waiting(self) -> str | None:
        """Return whose training is waited for, as part of a sentence, or None."""
        holder = self.waits_for
        return None if holder is None else f"process {holder.pid} on {holder.host}"

    def index(self) -> dict[ExpertId, tuple[int, ...]]:
        """Return the epochs of each expert on disk."""
        self._asked = time.monotonic()
        return self.store.index()

    def snapshot(self, expert: ExpertId, epoch: int) -> list[ObjectRef]:
        """Return the reference of one snapshot, in a list so that Ray does not resolve it on the way."""
        self._asked = time.monotonic()
        with self._putting:
            if (expert, epoch) not in self._refs:
                self._refs[expert, epoch] = ray.put(self._arrays(expert, epoch))
        return [self._refs[expert, epoch]]

    def _arrays(self, expert: ExpertId, epoch: int) -> dict[str, np.ndarray]:
        try:
            return {name: value.numpy() for name, value in self.store.load(expert, epoch).items()}
        except DamagedError:
            self._whole.pop(expert, None)  # so that it is looked at again
            raise

    def describe(self) -> dict[str, Any]:
        """Return what people want to know of this process."""
        trains = self._training.locked()
        idle = 0.0 if trains else time.monotonic() - self._asked
        return {"folder": str(self.store.folder), "host": platform.node(), "pid": os.getpid(), "trains": trains,
                "idle_s": idle}  # fmt: skip

    def _end_when_idle(self, idle_s: float) -> None:
        """End this actor for good once nobody has asked it anything for ``idle_s`` seconds."""
        while self._training.locked() or time.monotonic() - self._asked < idle_s:
            time.sleep(min(idle_s / 4, 10))
        ray.kill(ray.get_runtime_context().current_actor, no_restart=True)


def registry_name(folder: Location) -> str:
    """Return the name of the registry of a store; it changes with the store's place, its format and our version."""
    from engine import __version__

    return f"trajectories-{digest(str(folder), str(FORMAT_VERSION), __version__)}"


def get_registry(folder: Location, *, idle_s: float = IDLE_S) -> ActorHandle:
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
            max_restarts=-1,
            max_task_retries=RETRIES,
        )
        .remote(folder, idle_s)
    )


@dataclass(frozen=True, eq=False)
class RemoteSource:
    """Trajectories read from a registry; a snapshot is fetched once a node and then shared by its processes.

    Where the registry dies, it, or a new one of the same store, is asked again.
    """

    folder: Location
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
            arrays = self._fetched(expert, epoch)
            self._loaded[expert, epoch] = {name: _alias(array) for name, array in arrays.items()}
        return self._loaded[expert, epoch]

    def _fetched(self, expert: ExpertId, epoch: int) -> dict[str, np.ndarray]:
        for attempt in range(RETRIES + 1):
            registry = self.registry if attempt == 0 else get_registry(self.folder)
            try:
                [reference] = ray.get(registry.snapshot.remote(expert, epoch), timeout=self.timeout)
                arrays: dict[str, np.ndarray] = ray.get(reference, timeout=self.timeout)
                return arrays
            except LOST:
                if attempt == RETRIES:
                    raise
            time.sleep(2**attempt)
        raise AssertionError


def _alias(array: Any) -> torch.Tensor:
    """Return a tensor over a read-only array without copying it (and without torch's warning about just that)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
