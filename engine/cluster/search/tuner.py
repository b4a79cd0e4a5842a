"""Hyper-parameter search: Ray Tune trials with Optuna and ASHA, resumed from Tune's own state."""

import json
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator

from engine.cluster.errors import as_plain_error, died, last_line_of_traceback
from engine.cluster.runtime import Cluster
from engine.cluster.search.callbacks import TrialReports, trial_name
from engine.cluster.search.noise import quiet, unwrapped, uploads_awaited
from engine.cluster.search.table import TrialTable
from engine.cluster.search.trial import DistillTrial, best_set_file
from engine.config.schema import Study
from engine.config.search import Choice, Domain
from engine.io.progress import live
from engine.io.storage import Location, matching, remove_tree
from engine.resources import how_many_fit
from engine.specification import Specification

ROUNDS = 5
"""How often a search is run again when processes of its trials died."""

_EVERYTHING_LEFT = tune.ResumeConfig(
    unfinished=tune.ResumeConfig.ResumeType.RESUME, errored=tune.ResumeConfig.ResumeType.RESUME
)


@dataclass(frozen=True)
class Plan:
    """Number of trials in all and at once, and the resources of each."""

    samples: int
    concurrent: int
    resources: dict[str, float]

    def leaves(self, cluster: Cluster, resources: dict[str, float]) -> int:
        """Return how many tasks with ``resources`` each fit beside the trials."""
        total = {"cpu": cluster.cpus, "gpu": cluster.gpus}
        free = {kind: total[kind] - self.concurrent * self.resources[kind] for kind in total}
        fit = how_many_fit(resources, free)
        return int(max(0, fit if math.isfinite(fit) else free["cpu"]))


def plan(resources: dict[str, float], cluster: Cluster, samples: int) -> Plan:
    """Return a plan that runs as many of ``samples`` trials at once as the cluster can hold."""
    return Plan(samples=samples, concurrent=min(samples, cluster.slots(resources)), resources=resources)


@dataclass(frozen=True)
class Distilled:
    """A trial with a synthetic set: its last result, Tune's columns among it, and the file of its best set."""

    metrics: dict[str, Any]
    best_file: Location


def search(specification: Specification, chosen: Plan, folder: Location, reports: TrialReports) -> list[Distilled]:
    """Run the missing part of a study's trials, and return those that have a set, best first.

    ``folder`` is the study's; Tune's state, pickled by and for its owner, lies in ``tune`` in it. Unfinished trials
    resume from their checkpoints. Tune restarts a trial whose process died up to ``max_failures`` times, but gives it
    up at once if a second call of that process (writing a checkpoint) is pending; then the search is run again.

    Raises:
        ValueError: no trial can run as it is configured.
        StorageError: a trial failed and the storage is away; other trials are not started.
        RuntimeError: no trial was validated.
    """
    for _ in range(ROUNDS):
        with quiet(), unwrapped(), uploads_awaited():
            results = _run(specification, chosen, folder, reports)
        if not any(isinstance(result.error, BaseException) and died(result.error) for result in results):
            break
    return _ranked(results, specification.study, folder)


def _run(specification: Specification, chosen: Plan, folder: Location, reports: TrialReports) -> list[tune.Result]:
    """Run unfinished trials with ``tune.run``, because ``Tuner`` would restore the callbacks of the dead process."""
    study, state = specification.study, folder / "tune"
    cpus, gpus = chosen.resources["cpu"], chosen.resources["gpu"]
    resuming = _can_resume(state)
    if not resuming:
        remove_tree(state)
        remove_tree(folder / "trials")
    if isinstance(folder, Path):
        storage: dict[str, Any] = {"storage_path": str(folder)}
    else:
        storage = {"storage_path": folder.path, "storage_filesystem": PyFileSystem(FSSpecHandler(folder.fs))}
    sampling, table = _sampling(study, chosen), TrialTable(study, trials=chosen.samples)
    with live(table.drawn, table.line):
        analysis = tune.run(
            tune.with_resources(
                tune.with_parameters(DistillTrial, specification=specification, folder=folder, cpus=cpus),
                tune.PlacementGroupFactory([{"CPU": cpus, "GPU": gpus}]),
            ),
            name=state.name,
            **storage,
            metric=study.budget.metric,
            mode="max",
            max_concurrent_trials=chosen.concurrent,
            **sampling,
            trial_name_creator=trial_name,
            trial_dirname_creator=trial_name,
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2, checkpoint_frequency=1, checkpoint_at_end=True),
            resume=resuming,
            resume_config=_EVERYTHING_LEFT if resuming else None,
            callbacks=[reports, table, SchedulerState(sampling["scheduler"])],
            reuse_actors=True,
            max_failures=3,
            raise_on_failed_trial=False,
            verbose=0,
        )
    return list(tune.ResultGrid(analysis))


def _sampling(study: Study, chosen: Plan) -> dict[str, Any]:
    """Return the arguments of ``tune.run`` that say what is tried: the search, or one trial with the values given.

    Optuna's tree-structured Parzen estimator searches; its first trial has the defaults.
    """
    if chosen.samples == 1 or not study.search:
        return {"num_samples": 1, "search_alg": BasicVariantGenerator(), "scheduler": FIFOScheduler()}
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # A choice may be a mapping, which only Optuna's own storage cannot keep.
    warnings.filterwarnings("ignore", message="Choices for a categorical distribution", category=UserWarning)
    # A resumed search reports results to Optuna again.
    warnings.filterwarnings("ignore", message="The reported value is ignored because this `step=", category=UserWarning)
    defaults = {key: domain.default for key, domain in study.search.items()}
    return {
        "config": {key: tune_domain(domain) for key, domain in study.search.items()},
        "num_samples": chosen.samples,
        "search_alg": OptunaSearch(seed=study.seed, points_to_evaluate=[defaults]),
        "scheduler": _scheduler(study),
    }


class SchedulerState(tune.Callback):
    """Saves the scheduler's state with that of Tune, which omits it."""

    def __init__(self, scheduler: TrialScheduler) -> None:
        self.scheduler = scheduler

    def get_state(self) -> dict[str, Any]:
        """Return the scheduler's attributes."""
        return dict(self.scheduler.__dict__)

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore the scheduler's attributes."""
        self.scheduler.__dict__.update(state)


def _can_resume(state: Location) -> bool:
    """Return whether a folder holds the complete state of a search that has trials."""
    files = sorted(matching(state, "experiment_state-*.json"), key=lambda file: file.name)  # by the time in their names
    try:
        return bool(files) and bool(json.loads(files[-1].read_text(encoding="utf-8"))["trial_data"])
    except (ValueError, KeyError):  # cut off while it was written
        return False


def _scheduler(study: Study) -> ASHAScheduler:
    """Return successive halving over outer steps, which stops no trial before a quarter of its validations.

    Its clock is the outer step and not Tune's ``training_iteration``, which a trial that begins again does not reset.
    """
    steps, every = study.budget.outer_steps, study.budget.evaluate_every
    validations = -(-steps // every)
    grace = min(max(1, validations // 4) * every, steps)
    return ASHAScheduler(time_attr="outer_step", max_t=steps, grace_period=grace, reduction_factor=2)


def tune_domain(domain: Domain) -> Any:
    """Return a search domain as Tune spells it."""
    if isinstance(domain, Choice):
        return tune.choice(list(domain.values))
    if domain.integer:
        return (tune.lograndint if domain.log else tune.randint)(domain.low, domain.high + 1)
    return (tune.loguniform if domain.log else tune.uniform)(domain.low, domain.high)


def _ranked(results: list[tune.Result], study: Study, folder: Location) -> list[Distilled]:
    """Return the trials that have a set, best first; those that diverged later are among them."""
    ended = [(result.metrics or {}, Path(result.path).name) for result in results]
    distilled = [Distilled(metrics, best_set_file(folder, name)) for metrics, name in ended if "best" in metrics]
    if distilled:
        return sorted(distilled, key=lambda one: -float(one.metrics["best"]))
    refused = [metrics["failure"] for metrics, _ in ended if metrics.get("refused")]
    if refused:
        raise ValueError(refused[0])
    error = results[0].error if results else None
    if isinstance(error, BaseException):
        reason = str(as_plain_error(error))
    elif error is not None:
        reason = last_line_of_traceback(str(error))  # the traceback as text: Tune could not pickle the error
    else:
        reason = str(ended[0][0].get("failure", "it never ran.")) if ended else "no trial was started"
    raise RuntimeError(f"none of {len(results)} trials gave {study.budget.metric}; the first: {reason}")
