"""A pool of expert actors: as many as fit at once, each training one expert after another."""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayError

from engine.cluster.errors import DEATHS, USER_ERRORS, plain
from engine.cluster.experts.actor import ExpertActor
from engine.experts.store import ExpertStore
from engine.experts.trajectory import ExpertId
from engine.io.storage import StorageError
from engine.specification import Specification

ATTEMPTS = 3
"""How often an expert is begun whose process dies before it finishes one more epoch; each goes on from the store."""

SHARED = (*USER_ERRORS, StorageError)
"""Errors that are not of one expert alone."""

LOOK_S = 1.0
"""How often a pool that waits looks whether it is to stop."""


@dataclass
class _Pool:
    """Experts that wait, and what each actor does; an actor takes an expert when it is free, not before."""

    specification: Specification
    epochs: int
    resources: dict[str, float]
    registry: ActorHandle
    waiting: deque[ExpertId]
    attempts: dict[ExpertId, int]
    stop: threading.Event
    reached: dict[ExpertId, int] = field(default_factory=dict)
    busy: dict[ObjectRef, tuple[ActorHandle, ExpertId | None]] = field(default_factory=dict)
    failures: dict[ExpertId, Exception] = field(default_factory=dict)

    def hire(self) -> None:
        """Start one more actor."""
        actor = ExpertActor.options(**self.resources).remote(self.specification, self.resources["num_cpus"])
        self.busy[actor.ready.remote()] = actor, None

    def step(self) -> None:
        """Wait for an actor that is free, not for long, and give it the next expert or dismiss it."""
        found, _ = ray.wait(list(self.busy), timeout=LOOK_S)
        for done in found:
            self._take(done)

    def _take(self, done: ObjectRef) -> None:
        actor, expert = self.busy.pop(done)
        try:
            ray.get(done)
        except RayError as error:
            self._note(expert, error)
            ray.kill(actor)
            if self.waiting:
                self.hire()
        else:
            self._go_on(actor)

    def _go_on(self, actor: ActorHandle) -> None:
        if self.waiting:
            expert = self.waiting.popleft()
            self.attempts[expert] += 1
            self.busy[actor.train.remote(expert, self.epochs, self.registry)] = actor, expert
        else:
            ray.kill(actor)
            self._dismiss_unstarted()

    def _note(self, expert: ExpertId | None, error: RayError) -> None:
        """Queue an expert again whose process died; an actor that cannot start fails the expert that is next."""
        if expert is None:
            if not self.waiting:
                return
            expert = self.waiting.popleft()
            self.attempts[expert] += 1
        self._count_anew_after_progress(expert)
        if isinstance(error, DEATHS) and self.attempts[expert] < ATTEMPTS:
            self.waiting.append(expert)
        else:
            self.failures[expert] = plain(error, self.specification.storage)
            if isinstance(self.failures[expert], SHARED):
                self.waiting.clear()  # the others would find the same

    def _count_anew_after_progress(self, expert: ExpertId) -> None:
        epochs = ExpertStore(self.specification.expert_folder()).index().get(expert, ())
        if len(epochs) > self.reached.get(expert, 0):
            self.reached[expert], self.attempts[expert] = len(epochs), 1

    def dismiss(self) -> None:
        """End all actors, whatever they do; what they have finished lies in the store."""
        for actor, _ in self.busy.values():
            ray.kill(actor)
        self.busy.clear()

    def _dismiss_unstarted(self) -> None:
        for reference, (actor, expert) in list(self.busy.items()):
            if expert is None:
                ray.kill(actor)
                del self.busy[reference]


def train_in_pool(
    specification: Specification,
    experts: Sequence[ExpertId],
    *,
    epochs: int,
    resources: dict[str, float],
    at_once: int,
    registry: ActorHandle,
    stop: threading.Event,
) -> None:
    """Train ``experts`` up to ``epochs`` into their store; one whose process dies for good does not keep the others.

    Where ``stop`` is set meanwhile, what is finished stays and the rest is left.

    Raises:
        ValueError: an expert cannot be trained as it is configured.
        FileNotFoundError: a file that it needs is not there.
        RuntimeError: an expert could not be trained, or training was stopped.
    """
    pool = _Pool(specification, epochs, resources, registry, deque(experts), dict.fromkeys(experts, 0), stop)
    for _ in experts[:at_once]:
        pool.hire()
    try:
        while pool.busy and not stop.is_set():
            pool.step()
    finally:
        pool.dismiss()
    if stop.is_set():
        raise RuntimeError("the training of experts was stopped; repeat the command to go on.")
    for expert, error in sorted(pool.failures.items()):
        raise error if isinstance(error, SHARED) else RuntimeError(f"expert {expert}: {error}")
