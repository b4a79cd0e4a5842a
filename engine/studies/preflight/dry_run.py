"""Estimates before a study starts: a line in front of a distillation, and the text of ``--dry-run``."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch

from engine import build
from engine.build import Setup
from engine.cluster.nodes import bytes_of_gpus
from engine.config.load import as_yaml
from engine.config.resources import USUAL_SHARES, Task
from engine.data.pairs import Size
from engine.experts.store import ExpertStore
from engine.io.terminal import format_bytes, format_minutes
from engine.studies.job import Job
from engine.studies.preflight.checks import check_budgets, check_study
from engine.studies.preflight.costs import time_dummy, time_prepared, timed
from engine.studies.preflight.dummy_inputs import dummy_setup
from engine.studies.preflight.memory import TrialBytes, trial_bytes
from engine.studies.preflight.minutes import add_up, here, workers
from engine.studies.preflight.requirements import parameter_counts, snapshot_bytes
from engine.studies.preflight.shares import wanted_shares


@dataclass(frozen=True)
class Estimate:
    """Estimated time of a study on this machine, bytes of its trajectories, and bytes of a trial.

    ``minutes`` are None where a step of the method fails on dummy experts.
    """

    minutes: float | None
    trajectories: int
    trial: TrialBytes

    def sentence(self) -> str:
        """Return the line with which a distillation begins."""
        time = "unknown time" if self.minutes is None else f"about {format_minutes(self.minutes)}"
        return (
            f"Estimate: {time} on {here()}, {format_bytes(self.trajectories)} of trajectories, "
            f"{_memory(self.trial.step)} in an outer step"
        )


def estimate(job: Job) -> Estimate:
    """Estimate a study on its own inputs, and on random ones where these are not made yet.

    Raises:
        ValueError: the method learns something that has no learning rate in the study.
    """
    setups = job.specification.setups(device="cpu")
    sizes = {split: Size(dataset.num_images, len(dataset)) for split, dataset in setups[0].datasets.items()}
    made = all(array.here for one in setups for array in one.arrays.values())
    trial, minutes = bytes_ahead(job), None
    with suppress(RuntimeError, TypeError):  # the method itself fails on dummy experts: no reason to stop
        costs, shares = timed(time_prepared if made else time_dummy, job.specification), shares_here(job, trial.step)
        minutes = sum(add_up(job, costs, sizes, shares).minutes(workers(job.study, shares)).values())
    return Estimate(minutes, _trajectory_bytes(job, setups), trial)


def bytes_ahead(job: Job) -> TrialBytes:
    """Return the bytes of the job's trial, from random inputs where its own are not made yet."""
    return trial_bytes(job, _setups(job))


def shares_ahead(job: Job, trial: int | None, gpus: Sequence[int]) -> Mapping[Task, float]:
    """Return the shares of a GPU of tasks for which the study names none, on the smallest of GPUs of these bytes.

    ``trial`` are the bytes of an outer step. Where nothing is known or left open, these are the usual shares.
    """
    open_ones = [task for task, request in job.study.resources if request.gpu is None]
    return wanted_shares(job, _setups(job), trial, min(gpus)) if gpus and open_ones else USUAL_SHARES


def shares_here(job: Job, trial: int | None) -> Mapping[Task, float]:
    """Return the shares of ``shares_ahead`` on the GPUs of this machine."""
    return shares_ahead(job, trial, bytes_of_gpus() if torch.cuda.is_available() else ())


def _setups(job: Job) -> Sequence[Setup]:
    """Return the setups of the study's students, with random inputs where their own are not made yet."""
    setups = job.specification.setups(device="cpu")
    made = all(array.here for setup in setups for array in setup.arrays.values())
    return setups if made else _dummy_setups(job)


def _dummy_setups(job: Job) -> list[Setup]:
    """Return random data with each student that the set is learned for, on the CPU."""
    studies, paths = job.study.of_each_student(), job.specification.paths
    return [dummy_setup(s, paths, build.build_text_encoder(s, paths), torch.device("cpu")) for s in studies]


def describe(job: Job) -> str:
    """Return the resolved configuration and what would be run, with estimates from random data; nothing is written.

    What is cached and trials that end early are unknown.

    Raises:
        ValueError: the study cannot be run as it is configured.
    """
    check_study(job)
    study, count, epochs = job.study, job.expert_count, job.expert_epochs
    setups = _dummy_setups(job)
    step = trial_bytes(job, setups).step
    try:
        sizes = build.data_set(study).sizes(job.specification.paths)
    except FileNotFoundError as error:
        time = f"not estimated: {str(error).rstrip('.')}"
    else:
        check_budgets(job, sizes["train"].pairs)
        shares = shares_here(job, step)
        parts = add_up(job, timed(time_dummy, job.specification), sizes, shares).minutes(workers(study, shares))
        spelled = ", ".join(f"{name} {format_minutes(minutes)}" for name, minutes in parts.items())
        time = f"about {format_minutes(sum(parts.values()))} on {here()} ({spelled}; less what is cached already)"
    stores = [ExpertStore(one.expert_folder()).index() for one in job.specification.of_each_student()]
    there = sum(max(index.get(expert, (-1,))) >= epochs for index in stores for expert in range(count))
    each = f" for each of {len(stores)} students" if len(stores) > 1 else ""
    parameters, trajectories = parameter_counts(setups[0].student), format_bytes(_trajectory_bytes(job, setups))
    searched = f"a search over {', '.join(study.search)}" if job.samples > 1 else "one trial at the defaults"
    lines = [
        as_yaml(study).rstrip(),
        "---",
        f"study:         {job.folder}" + (" (finished)" if job.finished else ""),
        f"student:       {sum(parameters.values()):,} trained parameters "
        f"(image {parameters['image']:,}, text {parameters['text']:,})",
        f"experts:       {count} x {epochs} epochs{each}, {there} already there, {trajectories} of trajectories",
        f"trials:        {job.samples} x {study.budget.outer_steps} outer steps, {searched}",
        f"mlflow:        {job.mlflow_uri}",
        f"memory:        {_memory(step)} in an outer step",
        f"time:          {time}",
    ]
    return "\n".join(lines)


def _trajectory_bytes(job: Job, setups: Sequence[Setup]) -> int:
    return job.expert_count * (job.expert_epochs + 1) * sum(snapshot_bytes(one.student) for one in setups)


def _memory(step: int | None) -> str:
    return "unknown memory" if step is None else f"{format_bytes(step)} of memory"
