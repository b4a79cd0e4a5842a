"""How long a study would take here: what its steps cost, times how many there are."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from engine import build
from engine.config.schema import Request, Study
from engine.data.pairs import Size
from engine.experts.store import ExpertStore
from engine.io.terminal import format_minutes
from engine.resources import how_many_fit
from engine.studies.job import Job
from engine.studies.preflight.costs import Costs

START = 25.0
"""Seconds in which Ray, its workers and MLflow come up on two cores, measured; a joined cluster takes less."""


@dataclass(frozen=True)
class Parts:
    """Processor seconds of each part of a study, and of the longest chain of steps that wait for each other."""

    caches: float
    experts: float
    trials: float
    scoring: float
    chain: float

    def minutes(self, at_once: int) -> float:
        """Return the minutes on so many processors, or GPUs' shares, that have nothing else to do."""
        work = self.experts + self.trials + self.scoring
        return (START + self.caches / at_once + max(self.chain, work / at_once)) / 60

    def shares(self, at_once: int) -> str:
        """Return the minutes of each part on so many processors, as people say them."""
        names = ("caches", "experts", "trials", "scoring")
        return ", ".join(f"{name} {format_minutes(getattr(self, name) / at_once / 60)}" for name in names)


def split_sizes(job: Job) -> dict[str, Size]:
    """Return how large the splits of the job's data are, without reading an image.

    Raises:
        FileNotFoundError: the data are not here.
        ValueError: they are not usable.
    """
    return build.data_set(job.study).sizes(job.specification.paths)


def add_up(job: Job, costs: Costs, sizes: Mapping[str, Size]) -> Parts:
    """Return the seconds of each part: the costs times the counts of the study."""
    study = job.study
    given, baselines, budget = study.protocol, study.baselines, study.budget
    pairs = sizes["train"].pairs
    epoch = max(1, _each_epoch(study, sizes["train"]) // study.experts.batch_size) * costs.expert_batch
    val, test = (_scored(costs, sizes[split]) for split in ("val", "test"))
    eval_points = 1 if given.select_epoch == "last" else 10

    def training(number: int) -> float:
        return given.epochs * math.ceil(number / given.batch_size) * costs.student_step * _share(study, number)

    def result(number: int, *, learned: bool) -> float:
        """Choosing the rates, and then every seed."""
        chosen = len(given.learning_rates) + learned
        judged = test if given.select_epoch == "best_on_test" else val
        watched = 0.0 if eval_points == 1 else eval_points * judged
        students = (chosen if chosen > 1 else 0) + given.seeds
        return students * (training(number) + watched + val) + given.seeds * test

    own = study.method.num_pairs
    validations = math.ceil(budget.outer_steps / budget.evaluate_every)
    watched = 0.0 if eval_points == 1 else eval_points * val
    trial = budget.outer_steps * costs.outer_step + validations * (training(own) + watched + val)
    full = baselines.full_epochs * (epoch + val) + test
    missing = _epochs_missing(job)
    coresets = sum(result(number, learned=False) for number in baselines.pairs or [own]) * len(baselines.coresets)
    return Parts(
        caches=sum(size.images for size in sizes.values()) * costs.image_cached
        + sum(size.pairs for size in sizes.values()) * costs.caption_cached
        + pairs * costs.captions_fitted,
        experts=missing * epoch,
        trials=job.samples * trial,
        scoring=result(own, learned=True) + coresets + baselines.full_seeds * full,
        chain=(_rounds(job.expert_count, study.resources.expert) * job.expert_epochs * epoch if missing else 0.0)
        + _rounds(job.samples, study.resources.trial) * trial
        + _rounds(1, study.resources.evaluation) * result(own, learned=True),
    )


def _each_epoch(study: Study, size: Size) -> int:
    """Return how many pairs an expert goes through in an epoch."""
    return size.images if study.experts.captions == "one" else size.pairs


def _share(study: Study, number: int) -> float:
    """Return how full a student's batches are, against those that are timed."""
    timed = min(study.protocol.batch_size, study.method.num_pairs)
    return number / math.ceil(number / study.protocol.batch_size) / timed


def _scored(costs: Costs, size: Size) -> float:
    """Return the seconds of embedding a split and ranking all of it."""
    embedded = size.images * costs.image_embedded + size.pairs * costs.caption_embedded
    return embedded + size.images * size.pairs * costs.score_compared


def _epochs_missing(job: Job) -> int:
    """Return the expert epochs that the store lacks."""
    index = ExpertStore(job.specification.expert_folder()).index()
    there = [min(max(index.get(expert, (0,))), job.expert_epochs) for expert in range(job.expert_count)]
    return sum(job.expert_epochs - last for last in there)


def _cpus() -> int:
    return len(os.sched_getaffinity(0))


def here() -> str:
    """Return what this machine has to work with."""
    gpus = f" and {torch.cuda.device_count()} GPUs" if torch.cuda.is_available() else ""
    return f"{_cpus()} CPUs{gpus}"


def workers(study: Study) -> int:
    """Return by what the work of a study is divided: the processors, or the trials that the GPUs have room for."""
    return _at_once(study.resources.trial) if torch.cuda.is_available() else _cpus()


def _at_once(request: Request) -> int:
    """Return how many holders of a request this machine has room for."""
    gpus = torch.cuda.device_count()
    wanted = {"cpu": request.cpu, "gpu": request.gpu if gpus else 0.0}
    return int(max(1, min(how_many_fit(wanted, {"cpu": _cpus(), "gpu": gpus}), _cpus())))


def _rounds(number: int, request: Request) -> float:
    """Return how many of ``number`` tasks run one after the other, each shortened by its own threads."""
    threads = 1 if torch.cuda.is_available() else max(1, int(request.cpu))
    return math.ceil(number / _at_once(request)) / threads
