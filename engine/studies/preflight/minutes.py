"""Time of a study on this machine: the costs of its steps times their number."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from engine.config.resources import USUAL_SHARES, Task
from engine.config.schema import Resolved
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


def add_up(
    job: Job, costs: Sequence[Costs], sizes: Mapping[str, Size], shares: Mapping[Task, float] = USUAL_SHARES
) -> Parts:
    """Return the seconds of each part: the costs of each student times the counts of the study.

    ``shares`` of a GPU are those of tasks for which the study names none.
    """
    study = job.study
    epoch = [_batches(study, sizes["train"]) * one.expert_batch for one in costs]
    missing = _epochs_missing(job)
    slowest = sum(seconds for number, seconds in zip(missing, epoch, strict=True) if number) * job.expert_epochs
    trial, result = _trial(study, costs, sizes), sum(_scored(study, sizes, one, learned=1) for one in costs)
    return Parts(
        caches=_caches(study, costs, sizes),
        experts=sum(number * seconds for number, seconds in zip(missing, epoch, strict=True)),
        trials=job.samples * trial,
        scoring=result + _baselines(study, costs[0], sizes),
        chain=(
            _rounds(job.expert_count, study.resources.of("expert", shares)) * slowest,
            _rounds(job.samples, study.resources.of("trial", shares)) * trial,
            _rounds(1, study.resources.of("evaluation", shares)) * result,
        ),
    )


def _batches(study: Resolved, train: Size) -> int:
    """Return the steps of an expert's epoch."""
    return max(1, (train.images if study.experts.captions == "one" else train.pairs) // study.experts.batch_size)


def _trial(study: Resolved, costs: Sequence[Costs], sizes: Mapping[str, Size]) -> float:
    """Return the seconds of a trial's outer steps and validations."""
    budget, pairs = study.budget, study.method.num_pairs
    looks = _points(study) + 1
    validated = sum(_student(study, pairs, one) + looks * _seen(sizes["val"], one) for one in costs)
    each = [one.outer_step for one in costs]
    steps = budget.outer_steps * (sum(each) if study.method.students == "summed" else fmean(each))
    return steps + math.ceil(budget.outer_steps / budget.evaluate_every) * validated


def _scored(
    study: Resolved, sizes: Mapping[str, Size], one: Costs, *, learned: int, number: int | None = None
) -> float:
    """Return the seconds of choosing learning rates and scoring every seed, for as many pairs as are learned or given.

    ``learned`` rates are candidates beside those of the protocol.
    """
    protocol, test = study.protocol, _seen(sizes["test"], one)
    rates = len(protocol.learning_rates) + learned
    judged = test if protocol.select_epoch == "best_on_test" else _seen(sizes["val"], one)
    trained = _student(study, number or study.method.num_pairs, one) + _points(study) * judged
    students = (rates if rates > 1 else 0) + protocol.seeds
    return students * (trained + _seen(sizes["val"], one)) + protocol.seeds * test


def _baselines(study: Resolved, own: Costs, sizes: Mapping[str, Size]) -> float:
    """Return the seconds of the scores of all coresets and of the students of all pairs."""
    given = study.baselines
    numbers = given.pairs or [study.method.num_pairs]
    coresets = sum(_scored(study, sizes, own, learned=0, number=number) for number in numbers) * len(given.coresets)
    epoch = _batches(study, sizes["train"]) * own.expert_batch + _seen(sizes["val"], own)
    return coresets + given.full_seeds * (given.full_epochs * epoch + _seen(sizes["test"], own))


def _caches(study: Resolved, costs: Sequence[Costs], sizes: Mapping[str, Size]) -> float:
    """Return the seconds of what is made of the data once; students with one encoder share what it makes."""
    each = list(zip(study.of_each_student(), costs, strict=True))
    images = {repr(one.student.image): cost.image_cached for one, cost in each}
    captions = {repr(one.student.text): cost.caption_cached for one, cost in each}
    photo, caption = costs[0].photo_decoded + sum(images.values()), sum(captions.values())
    return sum(size.images * photo + size.pairs * caption for size in sizes.values())


def _seen(size: Size, one: Costs) -> float:
    """Return the seconds of scoring a student once on a split."""
    embedded = size.images * one.image_embedded + size.pairs * one.caption_embedded
    return embedded + size.images * size.pairs * one.score_compared


def _points(study: Resolved) -> int:
    """Return at how many points a student is judged besides its end."""
    return 0 if study.protocol.select_epoch == "last" else EVAL_POINTS


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


def workers(study: Resolved, shares: Mapping[Task, float] = USUAL_SHARES) -> int:
    """Return the number that divides the work of a study: the CPUs, or the trials that the GPUs have room for."""
    cpus = len(os.sched_getaffinity(0))
    return _at_once(study.resources.of("trial", shares)) if torch.cuda.is_available() else cpus


def _at_once(wanted: Mapping[str, float]) -> int:
    """Return how many tasks of these resources this machine runs at once."""
    cpus, gpus = len(os.sched_getaffinity(0)), torch.cuda.device_count()
    fit = how_many_fit({**wanted, **({} if gpus else {"gpu": 0.0})}, {"cpu": cpus, "gpu": gpus})
    return int(max(1, fit if math.isfinite(fit) else cpus))


def _rounds(number: int, wanted: Mapping[str, float]) -> float:
    """Return how many of ``number`` tasks run one after the other, each divided by its own threads."""
    threads = 1 if torch.cuda.is_available() else max(1, int(wanted["cpu"]))
    return math.ceil(number / _at_once(wanted)) / threads
