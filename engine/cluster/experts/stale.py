"""Detached actors of ours that live on a cluster after the commands that started them: listed, and stopped."""

from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util import list_named_actors

from engine.cluster.experts.registry import NAMESPACE

PATIENCE_S = 10.0


@dataclass(frozen=True)
class StaleActor:
    """A detached actor: its name, and what it tells of itself, or None where it does not answer."""

    name: str
    told: dict[str, Any] | None

    def sentence(self) -> str:
        """Return one line about it."""
        if self.told is None:
            return f"{self.name}  does not answer"
        state = "trains experts" if self.told["trains"] else f"idle for {self.told['idle_s']:.0f} s"
        return f"{self.name}  {state}, process {self.told['pid']} on {self.told['host']}, {self.told['folder']}"


def stale_actors() -> list[StaleActor]:
    """Return our detached actors on the cluster that this process has joined, by name."""
    named = list_named_actors(all_namespaces=True)
    return [_asked(name) for name in sorted(one["name"] for one in named if one["namespace"] == NAMESPACE)]


def _asked(name: str) -> StaleActor:
    try:
        actor = ray.get_actor(name, namespace=NAMESPACE)
        return StaleActor(name, ray.get(actor.describe.remote(), timeout=PATIENCE_S))
    except (RayError, ValueError):  # dead, dying or hung
        return StaleActor(name, None)


def stop(leftover: StaleActor) -> None:
    """End an actor for good, with the experts that it trains; what they have finished lies in the store."""
    try:
        ray.kill(ray.get_actor(leftover.name, namespace=NAMESPACE), no_restart=True)
    except ValueError:  # it has ended by itself
        return
