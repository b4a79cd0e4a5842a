"""An actor that trains one expert at a time and saves every epoch in the store.

The registry imports this module but never trains, so the libraries of training are imported inside the functions.
"""

from collections.abc import Callable

import ray
from ray.actor import ActorHandle

from engine.cluster.runtime import use_resources
from engine.experts.store import ExpertStore
from engine.experts.trajectory import ExpertId
from engine.provenance import provenance
from engine.specification import Specification
from engine.tensors import MODALITIES, check_finite

Report = Callable[[float], None]
"""Receives the number of finished epochs, with fractions."""


def train_into_store(
    specification: Specification, expert: ExpertId, *, epochs: int, report: Report | None = None
) -> None:
    """Train one expert up to ``epochs``, resuming from its last epoch in the store."""
    from engine.build import expert_recipe
    from engine.evaluation.student import score
    from engine.experts.train import train_expert

    study, setup = specification.study, specification.setup()
    store = ExpertStore(specification.expert_folder())
    recipe = study.model_dump(mode="json", include={"data", "student", "experts", "seed", "precision"})
    store.describe(recipe, provenance(), setup.inputs)
    done, resume, losses = 0.0, None, list[float]()
    if finished := store.index().get(expert):
        done = float(finished[-1])
        params = store.load(expert, finished[-1])
        resume = finished[-1], {name: value.to(setup.device) for name, value in params.items()}

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
        on_loss=losses.append,
    )
    for epoch, params in epoch_parameters:
        try:
            for name, value in params.items():
                check_finite(name, value)
        except ValueError as error:
            rates = study.experts.lr.model_dump(include=set(MODALITIES))
            raise ValueError(
                f"experts.lr is {rates}, with which expert {expert} diverges in epoch {epoch}: {error}"
            ) from error
        store.save(expert, epoch, params)
        if losses:  # epoch 0 has none
            recall = score(setup.student, params, setup.pairs["val"])["mean_recall"]
            store.record(expert, epoch, {"loss": losses[-1], "val/mean_recall": recall})
        done = float(epoch)


class ExpertTrainer:
    """The actor's class, which trains experts of one specification with ``cpus`` CPUs."""

    def __init__(self, specification: Specification, cpus: float) -> None:
        use_resources(cpus)
        self.specification = specification

    def ready(self) -> None:
        """Return once the actor runs and has loaded its data."""
        self.specification.setup()

    def train(self, expert: ExpertId, epochs: int, registry: ActorHandle) -> None:
        """Train one expert and report its progress to the registry, about once a percent."""
        last = -1.0

        def report(done: float) -> None:
            nonlocal last
            if done - last >= 0.01 * epochs or done == epochs:
                last = done
                registry.report.remote(expert, done)

        train_into_store(self.specification, expert, epochs=epochs, report=report)


ExpertActor = ray.remote(ExpertTrainer)
