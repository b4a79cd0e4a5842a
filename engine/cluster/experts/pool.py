"""Train experts in a pool of actors, each of which trains one expert after another."""

import threading
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayError

from engine.cluster.errors import DEATHS, USER_ERRORS, as_plain_error
from engine.cluster.experts.actor import ExpertActor
from engine.experts.store import ExpertStore
from engine.experts.trajectory import ExpertId
from engine.io.storage import StorageError
from engine.specification import Specification

ATTEMPTS = 3
"""Deaths of the process of one expert without a new epoch in the store before the expert is given up."""

SHARED = (*USER_ERRORS, StorageError)
"""Errors that every other expert would meet too."""

POLL_S = 1.0
"""Seconds between two looks at the stop event while an actor is waited for."""


@dataclass
class Pool:
    """The waiting experts and the failed ones; one thread serves each actor.

    When ``stop`` is set, the actors end; every finished epoch is in the store.
    """

    specification: Specification
    epochs: int
    resources: dict[str, float]
    registry: ActorHandle
    stop: threading.Event
    waiting: deque[ExpertId]
    attempts: Counter[ExpertId] = field(default_factory=Counter)
    reached: dict[ExpertId, int] = field(default_factory=dict)
    failures: dict[ExpertId, Exception] = field(default_factory=dict)

    def train(self, at_once: int) -> None:
        """Train the waiting experts in ``at_once`` actors; one that fails for good does not keep the others."""
        with ThreadPoolExecutor(at_once) as threads:
            serving = [threads.submit(self._serve) for _ in range(min(at_once, len(self.waiting)))]
        for served in serving:
            served.result()
        if self.stop.is_set():
            raise RuntimeError("the training of experts was stopped; repeat the command to go on.")
        for expert, error in sorted(self.failures.items()):
            raise error if isinstance(error, SHARED) else RuntimeError(f"expert {expert}: {error}")

    def _serve(self) -> None:
        """Train experts in one actor until none waits; an actor that fails is replaced by a new one."""
        while self.waiting and not self.stop.is_set():
            actor = ExpertActor.options(**self.resources).remote(self.specification, self.resources["num_cpus"])
            expert = None
            try:
                ready = actor.ready.remote()  # an expert is given to a free actor, never to one that waits for a CPU
                while not _done(ready):
                    if self.stop.is_set() or not self.waiting:
                        return
                while (expert := self._next()) is not None:
                    training = actor.train.remote(expert, self.epochs, self.registry)
                    while not _done(training):
                        if self.stop.is_set():
                            return
            except RayError as error:
                self._record_failure(expert, error)
            finally:
                ray.kill(actor)

    def _next(self) -> ExpertId | None:
        try:
            expert = self.waiting.popleft()
        except IndexError:
            return None
        self.attempts[expert] += 1
        return expert

    def _record_failure(self, expert: ExpertId | None, error: RayError) -> None:
        """Queue an expert again if its process died; an actor that cannot start (None) fails the next expert."""
        if expert is None and (expert := self._next()) is None:
            return
        epochs = len(ExpertStore(self.specification.expert_folder()).index().get(expert, ()))
        if epochs > self.reached.get(expert, 0):  # a death after progress is the first of a new count
            self.reached[expert], self.attempts[expert] = epochs, 1
        if isinstance(error, DEATHS) and self.attempts[expert] < ATTEMPTS:
            self.waiting.append(expert)
            return
        self.failures[expert] = as_plain_error(error, self.specification.storage)
        if isinstance(self.failures[expert], SHARED):
            self.waiting.clear()


def _done(reference: ObjectRef) -> bool:
    """Wait up to ``POLL_S`` seconds for a call and return whether it has ended; raise its error if it failed."""
    ended = bool(ray.wait([reference], timeout=POLL_S)[0])
    if ended:
        ray.get(reference)
    return ended
