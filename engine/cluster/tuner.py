"""The search: trials of distillation over a study's domains, with Optuna and ASHA, restored where they had stopped."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from engine.cluster.runtime import Cluster
from engine.cluster.specification import Specification
from engine.cluster.trial import DistillTrial
from engine.config import Study
from engine.search import Choice, Domain, Int, LogInt, LogUniform, Uniform


@dataclass(frozen=True)
class Plan:
    """How many trials run, how many at once, and with what each."""

    samples: int
    concurrent: int
    resources: dict[str, float]

    def idle_cpus(self, cluster: Cluster) -> int:
        """Return the whole CPUs that trials leave free."""
        return int(cluster.cpus - self.concurrent * self.resources["cpu"])


def plan(study: Study, cluster: Cluster, resources: dict[str, float], samples: int) -> Plan:
    """Return how ``samples`` trials are spread over a cluster."""
    fits = [cluster.cpus // resources["cpu"]] if resources["cpu"] else [math.inf]
    if resources["gpu"]:
        fits.append(cluster.gpus // resources["gpu"])
    return Plan(samples=samples, concurrent=int(max(1, min(samples, *fits))), resources=resources)


def search(
    specification: Specification, chosen: Plan, folder: Path, callbacks: list[tune.Callback]
) -> list[tune.Result]:
    """Run the trials of a study, or what is left of them, and return those that have a best value, best first.

    ``folder`` holds Tune's own state of the study (its pickles are the owner's own); trials in it go on from their
    checkpoints.

    Raises:
        RuntimeError: no trial came to a validation.
    """
    study = specification.load()
    trainable = tune.with_resources(
        tune.with_parameters(DistillTrial, specification=specification, cpus=chosen.resources["cpu"]),
        tune.PlacementGroupFactory([{"CPU": chosen.resources["cpu"], "GPU": chosen.resources["gpu"]}]),
    )
    if tune.Tuner.can_restore(str(folder)):
        tuner = tune.Tuner.restore(str(folder), trainable=trainable, resume_errored=True, resume_unfinished=True)
    else:
        tuner = _new_tuner(study, trainable, chosen, folder, callbacks)
    return _ranked(list(tuner.fit()), study)


def _new_tuner(study: Study, trainable: Any, chosen: Plan, folder: Path, callbacks: list[tune.Callback]) -> tune.Tuner:
    """Return the tuner of a study that starts; one trial at the defaults needs neither searcher nor scheduler."""
    searching = chosen.samples > 1 and bool(study.search)
    return tune.Tuner(
        trainable,
        param_space={key: tune_domain(domain) for key, domain in study.search.items()} if searching else {},
        tune_config=tune.TuneConfig(
            metric=study.budget.metric,
            mode="max",
            num_samples=chosen.samples if searching else 1,
            max_concurrent_trials=chosen.concurrent,
            search_alg=_searcher(study) if searching else None,
            scheduler=_scheduler(study) if searching else None,
            trial_dirname_creator=lambda trial: f"trial_{trial.trial_id}",
            trial_name_creator=lambda trial: f"trial_{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            verbose=0,
            callbacks=callbacks,
            failure_config=tune.FailureConfig(max_failures=3),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2, checkpoint_frequency=1, checkpoint_at_end=True),
        ),
    )


def _searcher(study: Study) -> OptunaSearch:
    """Return Optuna's tree-structured Parzen estimator, whose first trial is at the defaults."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    defaults = {key: domain.default for key, domain in study.search.items()}
    return OptunaSearch(seed=study.seed, points_to_evaluate=[defaults])


def _scheduler(study: Study) -> ASHAScheduler:
    """Return successive halving over validations; a trial is stopped after a quarter of its budget at the earliest."""
    validations = math.ceil(study.budget.outer_steps / study.budget.evaluate_every)
    return ASHAScheduler(
        time_attr="training_iteration",
        max_t=max(validations, 1),
        grace_period=max(1, validations // 4),
        reduction_factor=2,
    )


def tune_domain(domain: Domain) -> Any:
    """Return a search domain as Tune spells it."""
    match domain:
        case Choice():
            return tune.choice(list(domain.values))
        case Uniform():
            return tune.uniform(domain.low, domain.high)
        case LogUniform():
            return tune.loguniform(domain.low, domain.high)
        case Int():
            return tune.randint(domain.low, domain.high + 1)
        case LogInt():
            return tune.lograndint(domain.low, domain.high + 1)


def _ranked(results: list[tune.Result], study: Study) -> list[tune.Result]:
    """Return the trials that have a best value, best first.

    Raises:
        RuntimeError: there is none; the message names the first trial's error.
    """
    usable = [result for result in results if result.checkpoint and result.metrics and "best" in result.metrics]
    if not usable:
        reasons = [str(result.error or (result.metrics or {}).get("failure", "it never ran")) for result in results]
        first = reasons[0].strip().splitlines()[-1] if reasons else "no trial was started"
        raise RuntimeError(f"no trial reached a validation of {study.budget.metric}: {first}")
    return sorted(usable, key=lambda result: -float((result.metrics or {})["best"]))
