"""Time of a study on this machine: the costs of its steps times their number."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from engine.config.schema import Request, Resolved
from engine.data.pairs import Size
from engine.evaluation.protocol import EVAL_POINTS
from engine.experts.store import ExpertStore
from engine.io.terminal import format_minutes
from engine.resources import how_many_fit
from engine.studies.job import Job
from engine.studies.preflight.costs import Costs

START = 25.0
"""Seconds until Ray, its workers and MLflow run, measured on two cores; joining a cluster takes less."""


@dataclass(frozen=True)
class Parts:
    """CPU seconds of each part of a study, and of its longest chain of tasks that wait for each other."""

    caches: float
    experts: float
    trials: float
    scoring: float
    chain: float

    def minutes(self, at_once: int) -> float:
        """Return the minutes on ``at_once`` idle CPUs, or shares of GPUs."""
        work = self.experts + self.trials + self.scoring
        return (START + self.caches / at_once + max(self.chain, work / at_once)) / 60

    def shares(self, at_once: int) -> str:
        """Return the minutes of each part on ``at_once`` CPUs as text."""
        names = ("caches", "experts", "trials", "scoring")
        return ", ".join(f"{name} {format_minutes(getattr(self, name) / at_once / 60)}" for name in names)


def add_up(job: Job, costs: Costs, sizes: Mapping[str, Size]) -> Parts:
    """Return the seconds of each part: the costs times the counts of the study."""
    study, baselines, budget, own = job.study, job.study.baselines, job.study.budget, job.study.method.num_pairs
    train = sizes["train"]
    per_epoch = train.images if study.experts.captions == "one" else train.pairs
    epoch = max(1, per_epoch // study.experts.batch_size) * costs.expert_batch
    val, test = (
        sizes[split].images * costs.image_embedded
        + sizes[split].pairs * costs.caption_embedded
        + sizes[split].images * sizes[split].pairs * costs.score_compared
        for split in ("val", "test")
    )
    eval_points = 0 if study.protocol.select_epoch == "last" else EVAL_POINTS
    validations = math.ceil(budget.outer_steps / budget.evaluate_every)
    passes = study.method.views.count if study.method.views else 1
    passes *= 1 + len(study.students) if study.method.students == "summed" else 1
    trial = budget.outer_steps * (passes * costs.outer_step + costs.showing)
    trial += validations * (1 + len(study.students)) * (_student(study, own, costs) + (eval_points + 1) * val)

    def scored(number: int, *, learned: int) -> float:
        """Return the seconds of choosing learning rates and scoring every seed."""
        rates = len(study.protocol.learning_rates) + learned
        judged = test if study.protocol.select_epoch == "best_on_test" else val
        students = (rates if rates > 1 else 0) + study.protocol.seeds
        return students * (_student(study, number, costs) + eval_points * judged + val) + study.protocol.seeds * test

    result = scored(own, learned=1)
    coresets = sum(scored(number, learned=0) for number in baselines.pairs or [own]) * len(baselines.coresets)
    missing = _epochs_missing(job)
    chain = _rounds(job.expert_count, study.resources.expert) * job.expert_epochs * epoch if missing else 0.0
    chain += _rounds(job.samples, study.resources.trial) * trial + _rounds(1, study.resources.evaluation) * result
    return Parts(
        caches=sum(size.images * costs.image_cached + size.pairs * costs.caption_cached for size in sizes.values()),
        experts=missing * epoch,
        trials=job.samples * trial,
        scoring=result + coresets + baselines.full_seeds * (baselines.full_epochs * (epoch + val) + test),
        chain=chain,
    )


def _student(study: Resolved, number: int, costs: Costs) -> float:
    """Return the seconds of training one student on ``number`` pairs; a smaller batch costs in proportion."""
    timed_pairs = min(study.protocol.batch_size, study.method.num_pairs)
    return study.protocol.epochs * costs.student_step * number / timed_pairs


def _epochs_missing(job: Job) -> int:
    """Return the expert epochs that the stores of all students lack; those of each count as the own student's."""
    missing = 0
    for one in job.specification.of_each_student():
        index = ExpertStore(one.expert_folder()).index()
        done = (min(max(index.get(expert, (0,))), job.expert_epochs) for expert in range(job.expert_count))
        missing += job.expert_count * job.expert_epochs - sum(done)
    return missing


def here() -> str:
    """Return the CPUs and GPUs of this machine as text."""
    gpus = f" and {torch.cuda.device_count()} GPUs" if torch.cuda.is_available() else ""
    return f"{len(os.sched_getaffinity(0))} CPUs{gpus}"


def workers(study: Resolved) -> int:
    """Return the number that divides the work of a study: the CPUs, or the trials that the GPUs have room for."""
    return _at_once(study.resources.trial) if torch.cuda.is_available() else len(os.sched_getaffinity(0))


def _at_once(request: Request) -> int:
    """Return how many tasks of a request this machine runs at once."""
    cpus, gpus = len(os.sched_getaffinity(0)), torch.cuda.device_count()
    fit = how_many_fit({"cpu": request.cpu, "gpu": request.gpu if gpus else 0.0}, {"cpu": cpus, "gpu": gpus})
    return int(max(1, fit if math.isfinite(fit) else cpus))


def _rounds(number: int, request: Request) -> float:
    """Return how many of ``number`` tasks run one after the other, each divided by its own threads."""
    threads = 1 if torch.cuda.is_available() else max(1, int(request.cpu))
    return math.ceil(number / _at_once(request)) / threads
