"""An actor that trains one expert at a time and leaves each finished epoch in the store.

The registry imports this module without ever training, so that what training needs is imported by the actor alone.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import ray
from ray.actor import ActorHandle

from engine.cluster.runtime import use_cpus
from engine.experts.store import ExpertStore
from engine.experts.trajectory import ExpertId
from engine.specification import Specification

if TYPE_CHECKING:
    import torch

    from engine.tensors import Params

Report = Callable[[float], None]
"""Told how many epochs are done, fractions included."""


def train_into_store(
    specification: Specification, expert: ExpertId, *, epochs: int, report: Report | None = None
) -> None:
    """Train one expert up to ``epochs``, going on from its last epoch in the store."""
    from engine.build import expert_recipe
    from engine.experts.train import train_expert

    study, setup = specification.study, specification.setup()
    store = ExpertStore(specification.expert_folder())
    finished = store.index().get(expert, ())
    done = float(finished[-1]) if finished else 0.0
    resume = (finished[-1], _on_device(store, expert, finished[-1], setup.device)) if finished else None

    def on_progress(fraction: float) -> None:
        if report is not None:
            report(done + fraction)

    epoch_parameters = train_expert(
        setup.student,
        setup.pairs["train"],
        seed=study.seed,
        name=f"expert/{expert}",
        epochs=epochs,
        recipe=expert_recipe(study),
        resume=resume,
        on_progress=on_progress,
    )
    for epoch, params in epoch_parameters:
        store.save(expert, epoch, params)
        done = float(epoch)


def _on_device(store: ExpertStore, expert: ExpertId, epoch: int, device: "torch.device") -> "Params":
    return {name: value.to(device) for name, value in store.load(expert, epoch).items()}


class ExpertTrainer:
    """The actor's class: trains experts of one specification with the CPUs it was given."""

    def __init__(self, specification: Specification, cpus: float) -> None:
        use_cpus(cpus)
        self.specification = specification

    def ready(self) -> None:
        """Return once the actor runs and its data are at hand."""
        self.specification.setup()

    def train(self, expert: ExpertId, epochs: int, registry: ActorHandle) -> None:
        """Train one expert and tell the registry how far it is, about once a percent."""
        last = -1.0

        def report(done: float) -> None:
            nonlocal last
            if done - last >= 0.01 * epochs or done == epochs:
                last = done
                registry.report.remote(expert, done)

        train_into_store(self.specification, expert, epochs=epochs, report=report)


ExpertActor = ray.remote(ExpertTrainer)
