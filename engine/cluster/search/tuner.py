"""The search: trials of distillation over a study's domains, with Optuna and ASHA, resumed where they had stopped."""

import json
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator, Searcher

from engine.cluster.errors import as_plain_error, died, last_line_of_traceback
from engine.cluster.runtime import Cluster
from engine.cluster.search.callbacks import TrialReports, trial_name
from engine.cluster.search.noise import quiet, unwrapped, uploads_awaited
from engine.cluster.search.trial import DistillTrial
from engine.config.load import Study
from engine.config.search import Choice, Domain
from engine.io.storage import Location, check_answers, matching, remove_tree
from engine.resources import how_many_fit
from engine.specification import Specification

Result: TypeAlias = Any
"""A trial as it ended, which Tune calls ``tune.Result``."""

ROUNDS = 5
"""How often Tune is asked to finish a search in which processes die."""


@dataclass(frozen=True)
class Plan:
    """How many trials run, how many at once, and with what each."""

    samples: int
    concurrent: int
    resources: dict[str, float]

    def leaves(self, cluster: Cluster, resources: dict[str, float]) -> int:
        """Return how many tasks that take ``resources`` run beside the trials."""
        total = {"cpu": cluster.cpus, "gpu": cluster.gpus}
        free = {kind: total[kind] - self.concurrent * self.resources[kind] for kind in total}
        return int(max(0, min(how_many_fit(resources, free), free["cpu"])))


def plan(resources: dict[str, float], cluster: Cluster, samples: int) -> Plan:
    """Return how ``samples`` trials are spread over a cluster."""
    return Plan(samples=samples, concurrent=min(samples, cluster.slots(resources)), resources=resources)


def search(specification: Specification, chosen: Plan, folder: Location, reports: TrialReports) -> list[Result]:
    """Run the trials of a study, or what is left of them, and return those that have a best value, best first.

    ``folder`` holds Tune's own state of the study (its pickles are the owner's own); trials in it go on from their
    checkpoints. A trial that Tune gives up because its process died is taken up again: Tune does so itself, up to
    ``max_failures`` times, but gives up at once where a second call of the same dead process, the writing of a
    checkpoint, is outstanding.

    Raises:
        ValueError: no trial can run as it is configured.
        StorageError: a trial failed and the storage is away; the others are not tried in vain.
        RuntimeError: no trial came to a validation.
    """
    study = specification.study
    for _ in range(ROUNDS):
        with quiet(), unwrapped(), uploads_awaited():
            results = _run(specification, chosen, folder, reports)
        if not any(isinstance(result.error, BaseException) and died(result.error) for result in results):
            break
    return _ranked(results, study)


def _run(specification: Specification, chosen: Plan, folder: Location, reports: TrialReports) -> list[Result]:
    """Let Tune run what is left of the trials.

    ``tune.run`` is called rather than ``Tuner``, which would resume with callbacks of the dead process.
    """
    study = specification.study
    searching = chosen.samples > 1 and bool(study.search)
    scheduler = _scheduler(study) if searching else FIFOScheduler()
    resuming = _can_resume(folder)
    if not resuming:
        remove_tree(folder)
    analysis = tune.run(
        _trainable(specification, chosen),
        name=folder.name,
        **_where(folder.parent),
        metric=study.budget.metric,
        mode="max",
        config={key: tune_domain(domain) for key, domain in study.search.items()} if searching else {},
        num_samples=chosen.samples if searching else 1,
        max_concurrent_trials=chosen.concurrent,
        search_alg=_searcher(study) if searching else BasicVariantGenerator(),
        scheduler=scheduler,
        trial_name_creator=trial_name,
        trial_dirname_creator=trial_name,
        checkpoint_config=tune.CheckpointConfig(num_to_keep=2, checkpoint_frequency=1, checkpoint_at_end=True),
        resume=resuming,
        resume_config=_EVERYTHING_LEFT if resuming else None,
        callbacks=[reports, SchedulerState(scheduler), StorageWatch(specification.storage)],
        reuse_actors=True,
        max_failures=3,
        raise_on_failed_trial=False,
        verbose=0,
    )
    return list(tune.ResultGrid(analysis))


_EVERYTHING_LEFT = tune.ResumeConfig(
    unfinished=tune.ResumeConfig.ResumeType.RESUME, errored=tune.ResumeConfig.ResumeType.RESUME
)


class SchedulerState(tune.Callback):
    """Keeps with Tune's own state what the scheduler has seen of trials, which Tune alone would forget."""

    def __init__(self, scheduler: TrialScheduler) -> None:
        self.scheduler = scheduler

    def get_state(self) -> dict[str, Any]:
        """Return what the scheduler knows."""
        return dict(self.scheduler.__dict__)

    def set_state(self, state: dict[str, Any]) -> None:
        """Let the scheduler know what it knew."""
        self.scheduler.__dict__.update(state)


class StorageWatch(tune.Callback):
    """Ends the search where a trial fails while the storage is away; another attempt would fail too, and all others."""

    def __init__(self, storage: Location) -> None:
        self.storage = storage

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Look before a trial is started again."""
        check_answers(self.storage)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Look before other trials are started."""
        check_answers(self.storage)


def _trainable(specification: Specification, chosen: Plan) -> Any:
    cpus, gpus = chosen.resources["cpu"], chosen.resources["gpu"]
    return tune.with_resources(
        tune.with_parameters(DistillTrial, specification=specification, cpus=cpus),
        tune.PlacementGroupFactory([{"CPU": cpus, "GPU": gpus}]),
    )


def _where(folder: Location) -> dict[str, Any]:
    """Return how Tune is told of a folder; an object store is one that pyarrow reaches through fsspec."""
    if isinstance(folder, Path):
        return {"storage_path": str(folder)}
    return {"storage_path": folder.path, "storage_filesystem": PyFileSystem(FSSpecHandler(folder.fs))}


def _can_resume(folder: Location) -> bool:
    """Say whether ``folder`` holds the whole state of a search that has trials."""
    states = sorted(matching(folder, "experiment_state-*.json"), key=lambda file: file.name)  # they have the time in it
    try:
        return bool(states) and bool(json.loads(states[-1].read_text(encoding="utf-8"))["trial_data"])
    except (ValueError, KeyError):  # cut off as it was written
        return False


def _searcher(study: Study) -> Searcher:
    """Return Optuna's tree-structured Parzen estimator, whose first trial is at the defaults."""
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # A choice may be a mapping; Optuna's own storage could not keep it, but Tune's keeps what is drawn.
    warnings.filterwarnings("ignore", message="Choices for a categorical distribution", category=UserWarning)
    # A search that is taken up again after a kill hears of what it has already heard.
    warnings.filterwarnings("ignore", message="The reported value is ignored because this `step=", category=UserWarning)
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
    if isinstance(domain, Choice):
        return tune.choice(list(domain.values))
    if domain.integer:
        return (tune.lograndint if domain.log else tune.randint)(domain.low, domain.high + 1)
    return (tune.loguniform if domain.log else tune.uniform)(domain.low, domain.high)


def _ranked(results: list[Result], study: Study) -> list[Result]:
    """Return the trials that have a best value, best first.

    Raises:
        ValueError: there is none, for a reason that the user can mend.
        RuntimeError: there is none; the message tells of the first trial.
    """
    usable = [result for result in results if result.checkpoint and result.metrics and "best" in result.metrics]
    if usable:
        return sorted(usable, key=lambda result: -float((result.metrics or {})["best"]))
    refused = [result.metrics["failure"] for result in results if result.metrics and result.metrics.get("refused")]
    if refused:
        raise ValueError(refused[0])
    reasons = [_reason(result) for result in results] or ["no trial was started"]
    raise RuntimeError(f"none of {len(results)} trials gave {study.budget.metric}; the first: {reasons[0]}")


def _reason(result: Result) -> str:
    if isinstance(result.error, BaseException):
        return str(as_plain_error(result.error))
    if result.error is not None:
        return last_line_of_traceback(
            str(result.error)
        )  # what Tune could not pickle comes as the text of its traceback
    return str((result.metrics or {}).get("failure", "it never ran."))
