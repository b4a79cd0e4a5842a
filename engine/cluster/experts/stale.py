"""List and stop the detached actors that earlier commands left on a cluster."""

from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util import list_named_actors

from engine.cluster.experts.registry import NAMESPACE

PATIENCE_S = 10.0


@dataclass(frozen=True)
class StaleActor:
    """A detached actor: its name, and its description, or None if it does not answer."""

    name: str
    description: dict[str, Any] | None

    def sentence(self) -> str:
        """Return one line about the actor."""
        if (found := self.description) is None:
            return f"{self.name}  does not answer"
        state = "trains experts" if found["trains"] else f"idle for {found['idle_s']:.0f} s"
        return f"{self.name}  {state}, process {found['pid']} on {found['host']}, {found['folder']}"


def stale_actors() -> list[StaleActor]:
    """Return the project's detached actors on the cluster that this process has joined, sorted by name."""
    named = list_named_actors(all_namespaces=True)
    return [_asked(name) for name in sorted(one["name"] for one in named if one["namespace"] == NAMESPACE)]


def _asked(name: str) -> StaleActor:
    try:
        actor = ray.get_actor(name, namespace=NAMESPACE)
        return StaleActor(name, ray.get(actor.describe.remote(), timeout=PATIENCE_S))
    except (RayError, ValueError):  # dead, dying or hung
        return StaleActor(name, None)


def stop(actor: StaleActor) -> None:
    """End an actor for good, with the experts that it trains; their finished epochs stay in the store."""
    try:
        ray.kill(ray.get_actor(actor.name, namespace=NAMESPACE), no_restart=True)
    except ValueError:  # it has ended by itself
        return
