"""Processes on shares of GPUs that live on from one call to the next while calls wait."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import ray
from ray.actor import ActorHandle

T = TypeVar("T")
TRIES = 3
"""How often a process is started again, and its call repeated, when a node is lost; Ray's number for tasks."""


class Kept:
    """Makes each call in a process that is idle, or in a new one with ``options`` of Ray.

    A process keeps the GPU that it has opened. As a worker of Ray's pool it might get another one for its next task,
    and a task that ends its process pays some ten seconds for the next: libraries, a student, a CUDA context. These
    belong to this object, keep their share of a GPU until ``release`` or the end of the caller, and one whose call has
    failed is not used again.
    """

    def __init__(self, options: Mapping[str, float]) -> None:
        self.options = dict(options)
        self._idle: list[ActorHandle] = []
        self._lock = threading.Lock()

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return ``function(*arguments)`` from a process of its own; calls of several threads run side by side."""
        with self._lock:
            process = self._idle.pop() if self._idle else self._new()
        try:
            result: T = ray.get(process.call.remote(function, *arguments))
        except BaseException:
            _end(process)  # memory may be full, or the GPU in error
            raise
        with self._lock:
            self._idle.append(process)
        return result

    def release(self) -> None:
        """End the idle processes, so that others get their shares of GPUs."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            _end(process)

    def _new(self) -> ActorHandle:
        options = {**self.options, "max_restarts": TRIES, "max_task_retries": TRIES}
        return ray.remote(Process).options(**options).remote()


def _end(process: ActorHandle) -> None:
    """End a process, unless Ray has ended: it would start again for this call."""
    if ray.is_initialized():
        ray.kill(process)


class Process:
    """The actor's class."""

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return ``function(*arguments)``, and give back the memory of the GPU that it leaves unused."""
        import torch

        try:
            return function(*arguments)
        finally:
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
