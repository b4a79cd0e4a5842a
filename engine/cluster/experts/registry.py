"""The registry: a detached, named actor that serves the trajectories of one store and trains the missing ones.

The disk is the truth and Ray's object store a cache: a snapshot is put there when it is first read, as numpy arrays
that every process of a node maps without a copy. The registry puts and so owns them: they outlive experts, drivers and
trials. A registry that dies is restarted and reads the disk; an idle one ends itself. Each version of the code has
registries of its own.
"""

import os
import platform
import threading
import time
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import ray
import torch
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, ObjectLostError, RayActorError, RayError
from ray.util import list_named_actors

from engine.cluster.experts.pool import Pool
from engine.experts.lease import Holder, Lease
from engine.experts.store import DamagedError, ExpertStore
from engine.experts.trajectory import ExpertId
from engine.io.files import digest
from engine.io.storage import Location
from engine.provenance import code_digest
from engine.specification import Specification
from engine.tensors import Params

NAMESPACE = "vldistill"
IDLE_S = 1800.0
"""Seconds without a request after which a registry ends; the next request starts it again."""

CACHE_BYTES = 512 * 2**20
"""Bytes of snapshots that one reader keeps; each stays pinned in its node's object store."""

PATIENCE_S = 10.0
"""Seconds in which a detached actor has to describe itself."""

ANSWER_S = 30.0
"""Seconds in which a registry has to say what it holds, before it is asked again."""

SNAPSHOT_S = 120.0
"""Seconds in which a snapshot has to come from the registry's disk, and again from its node."""

RETRIES = 3

Answer = TypeVar("Answer")

LOST = (RayActorError, ObjectLostError, GetTimeoutError)
"""Errors of a reader whose registry, or its node, died or stalls; the read is repeated."""


class TrajectoryRegistry:
    """The actor's class; its methods run in several threads, ``ensure`` one at a time."""

    def __init__(self, folder: Location, idle_s: float = IDLE_S) -> None:
        self.store = ExpertStore(folder)
        self.progress_of: dict[ExpertId, float] = {}
        self.waits_for: Holder | None = None
        self._refs: dict[tuple[ExpertId, int], tuple[str, ObjectRef]] = {}
        self._checked: dict[ExpertId, str] = {}
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
    ) -> None:
        """Train the experts 0 .. count - 1 up to ``epochs`` in parallel actors, as far as the store lacks them.

        An expert whose training fails does not keep the others from being stored. Of several registries of one store,
        in other clusters or of other code, one trains while the others wait. ``caller`` names this call for ``stop``.
        """
        stop = self._stops.setdefault(caller, threading.Event())
        try:
            with self._training:
                if not self._missing(specification, count, epochs):
                    return
                lease = Lease(self.store.folder / "lease.json")
                with lease.held(on_wait=lambda holder: self._wait(holder, stop), on_loss=stop.set):
                    self.waits_for = None
                    self.store.sweep()
                    waiting = deque(self._missing(specification, count, epochs))
                    registry = ray.get_runtime_context().current_actor
                    Pool(specification, epochs, resources, registry, stop, waiting).train(at_once)
        finally:
            self.waits_for = None
            self._stops.pop(caller, None)
            self._asked = time.monotonic()

    def _missing(self, specification: Specification, count: int, epochs: int) -> list[ExpertId]:
        """Return the experts to train, after forgetting damaged snapshots, or refusing them if the study says so."""
        for expert in range(count):
            if self._checked.get(expert) == self.store.written(expert):
                continue  # its manifest is as at the last check
            try:
                self.store.check(expert)
            except DamagedError as error:
                if specification.study.experts.damaged != "retrain":
                    raise
                self.store.forget_from(expert, error.epoch)
            self._checked[expert] = self.store.written(expert)
        index = self.store.index()
        self.progress_of = {e: float(max(index.get(e, (0,)))) for e in range(count)}
        return [e for e in range(count) if max(index.get(e, (-1,))) < epochs]

    def _wait(self, holder: Holder, stop: threading.Event) -> None:
        """Show the progress of the process that trains into the store, while this one waits for it."""
        if stop.is_set():
            raise RuntimeError("the training of experts was stopped; repeat the command to go on.")
        self.waits_for = holder
        self.progress_of |= {e: float(epochs[-1]) for e, epochs in self.store.index().items() if e in self.progress_of}

    def stop(self, caller: str) -> None:
        """End one call of ``ensure`` early; its experts keep their finished epochs."""
        self._stops.setdefault(caller, threading.Event()).set()

    def report(self, expert: ExpertId, done: float) -> None:
        """Record the number of epochs that an expert has finished, with fractions."""
        self.progress_of[expert] = done

    def progress(self) -> tuple[dict[ExpertId, float], str | None]:
        """Return the epochs that each expert has finished, with fractions, and in words what process is waited for."""
        holder = self.waits_for
        return dict(self.progress_of), None if holder is None else f"process {holder.pid} on {holder.host}"

    def index(self) -> dict[ExpertId, tuple[int, ...]]:
        """Return the epochs of each expert on disk."""
        self._asked = time.monotonic()
        return self.store.index()

    def snapshot(self, expert: ExpertId, epoch: int) -> list[ObjectRef]:
        """Return the reference of one snapshot, in a list so that Ray does not resolve it on the way."""
        self._asked = time.monotonic()
        with self._putting:
            try:
                known, written = self._refs.get((expert, epoch)), self.store.checksum(expert, epoch)
                if known is None or known[0] != written:  # another folder may have taken the place of the one before
                    params = self.store.load(expert, epoch)
                    known = written, ray.put({name: value.numpy() for name, value in params.items()})
            except DamagedError:
                self._checked.pop(expert, None)
                raise
            self._refs[expert, epoch] = known
        return [known[1]]

    def describe(self) -> dict[str, Any]:
        """Return folder, host and process of this registry, whether it trains, and its idle seconds."""
        trains = self._training.locked()
        idle_s = 0.0 if trains else time.monotonic() - self._asked
        process = {"host": platform.node(), "pid": os.getpid()}
        return {"folder": str(self.store.folder), **process, "trains": trains, "idle_s": idle_s}

    def _end_when_idle(self, idle_s: float) -> None:
        """End this actor for good after ``idle_s`` seconds without a request."""
        while self._training.locked() or time.monotonic() - self._asked < idle_s:
            time.sleep(min(idle_s / 4, 10))
        ray.kill(ray.get_runtime_context().current_actor, no_restart=True)


def registry_name(folder: Location) -> str:
    """Return the name of a store's registry, which changes with the code so that no old one serves newer code."""
    return f"trajectories-{digest(str(folder), code_digest())}"


def get_registry(folder: Location, *, idle_s: float = IDLE_S) -> ActorHandle:
    """Return the registry of the store in ``folder``, which is started if it does not run yet."""
    return (
        ray.remote(TrajectoryRegistry)
        .options(
            name=registry_name(folder),
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            scheduling_strategy="DEFAULT",  # apart from the placement group of a trial that asks, which ends first
            max_concurrency=16,
            max_restarts=-1,
            max_task_retries=RETRIES,
        )
        .remote(folder, idle_s)
    )


def stale_actors() -> dict[str, dict[str, Any] | None]:
    """Return the descriptions of the cluster's detached actors by name, None for one that does not answer."""
    named = list_named_actors(all_namespaces=True)
    found: dict[str, dict[str, Any] | None] = {}
    for name in sorted(one["name"] for one in named if one["namespace"] == NAMESPACE):
        try:
            found[name] = ray.get(ray.get_actor(name, namespace=NAMESPACE).describe.remote(), timeout=PATIENCE_S)
        except (RayError, ValueError):  # dead, dying or hung
            found[name] = None
    return found


def stop_actor(name: str) -> None:
    """End a detached actor for good, with the experts that it trains; their finished epochs stay in the store."""
    with suppress(ValueError):  # it has ended by itself
        ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=True)


def asked(folder: Location, call: Callable[[ActorHandle], Answer]) -> Answer:
    """Return what ``call`` returns for the registry of a store; repeat it if that registry dies or stalls.

    Calls of a new process have been seen to wait for ever for a registry that was idle. The error of the last
    repetition ends the process's trial, which begins again in another one.
    """
    for attempt in range(RETRIES):
        try:
            return call(get_registry(folder))
        except LOST:
            time.sleep(2**attempt)
    return call(get_registry(folder))


def expert_epochs(folder: Location, count: int) -> dict[ExpertId, tuple[int, ...]]:
    """Return the epochs of the first ``count`` experts of a store, as its registry knows them."""
    index: dict[ExpertId, tuple[int, ...]] = asked(
        folder, lambda registry: ray.get(registry.index.remote(), timeout=ANSWER_S)
    )
    return {expert: epochs for expert, epochs in index.items() if expert < count}


@dataclass(frozen=True, eq=False)
class RemoteSource:
    """Trajectories read from a registry; a snapshot is fetched once a node and shared by its processes.

    The snapshots read last are kept, up to ``cache_bytes``. If the registry dies, the read is repeated at a new one.
    """

    folder: Location
    epochs: dict[ExpertId, tuple[int, ...]]
    timeout: float = SNAPSHOT_S
    cache_bytes: int = CACHE_BYTES
    _cache: OrderedDict[tuple[ExpertId, int], Params] = field(default_factory=OrderedDict)

    def index(self) -> dict[ExpertId, tuple[int, ...]]:
        """Return the epochs of each expert."""
        return self.epochs

    def load(self, expert: ExpertId, epoch: int) -> Params:
        """Return one snapshot as tensors that alias the object store; do not write to them, all readers share them."""
        params = self._cache.pop((expert, epoch), None) or self._fetched(expert, epoch)
        self._cache[expert, epoch] = params
        while sum(value.nbytes for kept in self._cache.values() for value in kept.values()) > self.cache_bytes:
            self._cache.popitem(last=False)
        return params

    def _fetched(self, expert: ExpertId, epoch: int) -> Params:
        def fetch(registry: ActorHandle) -> dict[str, np.ndarray]:
            [reference] = ray.get(registry.snapshot.remote(expert, epoch), timeout=self.timeout)
            arrays: dict[str, np.ndarray] = ray.get(reference, timeout=self.timeout)
            return arrays

        arrays = asked(self.folder, fetch)
        with warnings.catch_warnings():  # the arrays are read-only and not copied
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return {name: torch.from_numpy(array) for name, array in arrays.items()}
