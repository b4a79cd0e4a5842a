"""Train the experts of a study with a progress bar, until the store holds them."""

import uuid
from contextlib import suppress

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from engine.cluster import runtime
from engine.cluster.experts.registry import ANSWER_S, get_registry
from engine.io.progress import Bar, bar, echo
from engine.specification import Specification


def train_experts(specification: Specification, *, count: int, epochs: int, cluster: runtime.Cluster) -> None:
    """Train the first ``count`` experts up to ``epochs``, as far as the store lacks them."""
    registry, caller = get_registry(specification.expert_folder()), uuid.uuid4().hex
    granted = runtime.granted(specification.study.resources, "expert", cluster)
    training = registry.ensure.remote(
        specification,
        count=count,
        epochs=epochs,
        resources=runtime.actor_options(granted),
        at_once=cluster.slots(granted),
        caller=caller,
    )
    with bar(f"training {count} experts", total=count * epochs, unit="epochs") as progress:
        try:
            _watch(registry, training, progress)
        except KeyboardInterrupt:
            with suppress(RayError):  # a timeout included
                ray.get(registry.stop.remote(caller), timeout=5)
                ray.get(training, timeout=5)  # Ray prints an error that is not read
            raise
        progress.move(count * epochs)


def _watch(registry: ActorHandle, training: ray.ObjectRef, progress: Bar) -> None:
    """Show the progress until ``training`` is done, also while the registry is being restarted."""
    announced, known = None, False
    while not ray.wait([training], timeout=0.5)[0]:
        with suppress(RayActorError, GetTimeoutError):
            done, waits_for = ray.get(registry.progress.remote(), timeout=ANSWER_S)
            now = round(sum(done.values()), 1)
            (progress.move if known else progress.begin)(now)  # the epochs that the store held
            known = known or bool(done)
            if waits_for not in (None, announced):
                echo(f"These experts are being trained by {waits_for}; this command waits and uses them.")
            announced = waits_for
    ray.get(training)
