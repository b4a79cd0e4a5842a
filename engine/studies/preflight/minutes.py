"""Time of a study on this machine: the costs of its steps times their number."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from engine.config.schema import Request, Resolved
from engine.data.pairs import Size
from engine.evaluation.protocol import EVAL_POINTS
from engine.experts.store import ExpertStore
from engine.resources import how_many_fit
from engine.studies.job import Job
from engine.studies.preflight.costs import Costs

START = 25.0
"""Seconds until Ray, its workers and MLflow run, measured on two cores; joining a cluster takes less."""


@dataclass(frozen=True)
class Parts:
    """CPU seconds of each part of a study, and ``chain``: seconds of experts, trials and the set's scores, in turn."""

    caches: float
    experts: float
    trials: float
    scoring: float
    chain: tuple[float, float, float]

    def minutes(self, at_once: int) -> dict[str, float]:
        """Return the minutes that each part takes, one after the other, on ``at_once`` idle CPUs, or shares of GPUs.

        Baselines are scored beside experts and trials, as far as these leave room: ``scoring`` is what is left then.
        """
        experts, trials, result = self.chain
        left = (self.experts + self.trials + self.scoring) / at_once - experts - trials
        seconds = {"start": START, "caches": self.caches / at_once, "experts": experts, "trials": trials}
        return {name: value / 60 for name, value in (seconds | {"scoring": max(result, left)}).items()}


def add_up(job: Job, costs: Sequence[Costs], sizes: Mapping[str, Size]) -> Parts:
    """Return the seconds of each part: the costs of each student times the counts of the study."""
    study, baselines, budget, pairs = job.study, job.study.baselines, job.study.budget, job.study.method.num_pairs
    each, own, train = study.of_each_student(), costs[0], sizes["train"]
    per_epoch = train.images if study.experts.captions == "one" else train.pairs
    batches = max(1, per_epoch // study.experts.batch_size)
    eval_points = 0 if study.protocol.select_epoch == "last" else EVAL_POINTS

    def seen(split: str, one: Costs) -> float:
        """Return the seconds of scoring a student once."""
        images, captions = sizes[split].images, sizes[split].pairs
        compared = images * captions * one.score_compared
        return images * one.image_embedded + captions * one.caption_embedded + compared

    def scored(number: int, one: Costs, *, learned: int) -> float:
        """Return the seconds of choosing learning rates and scoring every seed."""
        rates = len(study.protocol.learning_rates) + learned
        judged = seen("test" if study.protocol.select_epoch == "best_on_test" else "val", one)
        students = (rates if rates > 1 else 0) + study.protocol.seeds
        trained = _student(study, number, one) + eval_points * judged + seen("val", one)
        return students * trained + study.protocol.seeds * seen("test", one)

    validated = sum(_student(study, pairs, one) + (eval_points + 1) * seen("val", one) for one in costs)
    trial = budget.outer_steps * fmean(one.outer_step for one in costs)
    trial += math.ceil(budget.outer_steps / budget.evaluate_every) * validated
    result = sum(scored(pairs, one, learned=1) for one in costs)
    coresets = sum(scored(n, own, learned=0) for n in baselines.pairs or [pairs]) * len(baselines.coresets)
    full = baselines.full_epochs * (batches * own.expert_batch + seen("val", own)) + seen("test", own)
    epochs = [(missing, batches * one.expert_batch) for missing, one in zip(_epochs_missing(job), costs, strict=True)]
    trained = sum(epoch for missing, epoch in epochs if missing) * job.expert_epochs
    images = {repr(one.student.image): cost.image_cached for one, cost in zip(each, costs, strict=True)}
    captions = {repr(one.student.text): cost.caption_cached for one, cost in zip(each, costs, strict=True)}
    photo, caption = own.photo_decoded + sum(images.values()), sum(captions.values())
    resources = study.resources
    chain = _rounds(job.expert_count, resources.expert) * trained, _rounds(job.samples, resources.trial) * trial
    return Parts(
        caches=sum(size.images * photo + size.pairs * caption for size in sizes.values()),
        experts=sum(missing * epoch for missing, epoch in epochs),
        trials=job.samples * trial,
        scoring=result + coresets + baselines.full_seeds * full,
        chain=(*chain, _rounds(1, resources.evaluation) * result),
    )


def _student(study: Resolved, number: int, costs: Costs) -> float:
    """Return the seconds of training one student on ``number`` pairs; a smaller batch costs in proportion."""
    timed_pairs = min(study.protocol.batch_size, study.method.num_pairs)
    return study.protocol.epochs * costs.student_step * number / timed_pairs


def _epochs_missing(job: Job) -> list[int]:
    """Return the expert epochs that the store of each student lacks."""
    missing = []
    for one in job.specification.of_each_student():
        index = ExpertStore(one.expert_folder()).index()
        done = (min(max(index.get(expert, (0,))), job.expert_epochs) for expert in range(job.expert_count))
        missing.append(job.expert_count * job.expert_epochs - sum(done))
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
