"""What a study would do, without doing it: its configuration, what is missing, estimated minutes and bytes."""

import time
from dataclasses import dataclass

from engine import build
from engine.config.load import as_yaml
from engine.data.pairs import Size
from engine.experts.store import ExpertStore
from engine.io.terminal import format_bytes, format_minutes
from engine.models.text import TextEncoder
from engine.models.two_tower import TwoTower
from engine.studies.job import Job
from engine.studies.preflight.checks import check_study
from engine.studies.preflight.costs import QUICK, THOROUGH, time_steps, with_caches
from engine.studies.preflight.dummy_inputs import DummyInputs, dummy_inputs, random_texts
from engine.studies.preflight.memory import trial_bytes
from engine.studies.preflight.minutes import add_up, here, split_sizes, workers
from engine.studies.preflight.requirements import parameter_counts, snapshot_bytes


@dataclass(frozen=True)
class Estimate:
    """What is ahead of a study on this machine: minutes, and bytes.

    ``trajectories`` are those of all its experts, on the disk; ``step`` is the memory of one outer step. ``minutes`` or
    ``step`` are None where a method does not bear a step on random numbers, or on none.
    """

    minutes: float | None
    trajectories: int
    step: int | None

    def sentence(self) -> str:
        """Return the line with which a distillation begins."""
        time = "minutes that cannot be told" if self.minutes is None else f"about {format_minutes(self.minutes)}"
        return (
            f"Estimate: {time} on {here()}, {format_bytes(self.trajectories)} of trajectories, "
            f"{_memory(self.step)} in an outer step"
        )


def estimate(job: Job) -> Estimate:
    """Return what is ahead of a study whose data are here and cached, from a quick look at each of its steps.

    Raises:
        ValueError: the method learns something that the study has no rate for.
    """
    dummy = dummy_inputs(job)
    return Estimate(
        minutes=_quick_minutes(job, dummy),
        trajectories=_trajectory_bytes(job, dummy.student),
        step=trial_bytes(job, dummy),
    )


def _quick_minutes(job: Job, dummy: DummyInputs) -> float | None:
    """Return the minutes from now on, None where a step on random numbers fails: that alone is no reason to stop."""
    datasets = job.specification.setup().datasets
    sizes = {split: Size(dataset.num_images, len(dataset)) for split, dataset in datasets.items()}
    try:
        costs = time_steps(dummy, sizes["val"], QUICK)
    except (RuntimeError, TypeError):
        return None
    return add_up(job, costs, sizes).minutes(workers(job.study))


def describe(job: Job) -> str:
    """Return the resolved configuration and what would be done, as text; nothing is written, and nothing of it done.

    A few steps on random numbers are timed for the minutes that it would take, and weighed for its memory.

    Raises:
        ValueError: the study cannot be run as it is configured.
    """
    check_study(job)
    study, count, epochs = job.study, job.expert_count, job.expert_epochs
    index = ExpertStore(job.specification.expert_folder()).index()
    there = sum(max(index.get(expert, (-1,))) >= epochs for expert in range(count))
    encoder = build.build_text_encoder(study, job.specification.paths)
    student = build.build_student(study, job.specification.paths, encoder=encoder).to(build.default_device())
    dummy = DummyInputs(study, student, random_texts(study, encoder))
    parameters = parameter_counts(student)
    size = format_bytes(_trajectory_bytes(job, student))
    lines = [
        as_yaml(study).rstrip(),
        "---",
        f"study:         {job.folder}" + (" (finished)" if job.finished else ""),
        f"student:       {sum(parameters.values()):,} trained parameters "
        f"(image {parameters['image']:,}, text {parameters['text']:,})",
        f"experts:       {count} x {epochs} epochs, {there} already there, {size} of trajectories",
        f"trials:        {job.samples} x {study.budget.outer_steps} outer steps, {_searched(job)}",
        f"mlflow:        {job.mlflow_uri}",
        f"memory:        {_memory(trial_bytes(job, dummy))} in an outer step",
        f"time:          {_time(job, dummy, encoder)}",
    ]
    return "\n".join(lines)


def _time(job: Job, dummy: DummyInputs, encoder: TextEncoder) -> str:
    """Return the minutes that a study would take on this machine, with its parts.

    No photo is read; what caches hold already, and trials that a search ends early, are not known and counted in full.

    Raises:
        ValueError: the data set's own list of pairs is not usable.
    """
    try:
        sizes = split_sizes(job)
    except FileNotFoundError as error:
        return f"not estimated: {str(error).rstrip('.')}"
    started = time.perf_counter()
    costs = with_caches(time_steps(dummy, sizes["val"], THOROUGH), dummy, encoder, THOROUGH)
    parts, at_once = add_up(job, costs, sizes), workers(job.study)
    return (
        f"about {format_minutes(parts.minutes(at_once))} on {here()} (timed here in "
        f"{time.perf_counter() - started:.0f} s: {parts.shares(at_once)}; less what is cached already)"
    )


def _searched(job: Job) -> str:
    keys = ", ".join(job.study.search)
    return f"a search over {keys}" if job.samples > 1 else "one trial at the defaults"


def _trajectory_bytes(job: Job, student: TwoTower) -> int:
    return job.expert_count * (job.expert_epochs + 1) * snapshot_bytes(student)


def _memory(step: int | None) -> str:
    return "memory that cannot be told" if step is None else f"{format_bytes(step)} of memory"
