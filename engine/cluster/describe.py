"""What a study would do, without doing it: its configuration, what is missing, estimated minutes and bytes."""

import time
from dataclasses import dataclass

from engine import assemble
from engine.cluster.costs import QUICK, THOROUGH, time_steps, with_caches
from engine.cluster.estimate import about, add_up, here, split_sizes, workers
from engine.cluster.footprint import spelled, trial_bytes
from engine.cluster.guards import check_study
from engine.cluster.job import Job
from engine.cluster.needs import parameter_counts, snapshot_bytes
from engine.cluster.rehearsal import Rehearsal, random_texts, rehearse
from engine.config import as_yaml
from engine.data.pairs import Size
from engine.experts.store import ExpertStore
from engine.models.text import TextEncoder
from engine.models.two_tower import TwoTower


@dataclass(frozen=True)
class Outlook:
    """What is ahead of a study on this machine: minutes, and bytes.

    ``trajectories`` are those of all its experts, on the disk; ``step`` is the memory of one outer step. ``minutes`` or
    ``step`` are None where a method does not bear a step on random numbers, or on none.
    """

    minutes: float | None
    trajectories: int
    step: int | None

    def sentence(self) -> str:
        """Return the line with which a distillation begins."""
        time = "minutes that cannot be told" if self.minutes is None else f"about {about(self.minutes)}"
        return (
            f"Estimate: {time} on {here()}, {spelled(self.trajectories)} of trajectories, "
            f"{_memory(self.step)} in an outer step"
        )


def foresee(job: Job) -> Outlook:
    """Return what is ahead of a study whose data are here and cached, from a quick look at each of its steps.

    Raises:
        ValueError: the method learns something that the study has no rate for.
    """
    rehearsal = rehearse(job)
    return Outlook(
        minutes=_quick_minutes(job, rehearsal),
        trajectories=_trajectory_bytes(job, rehearsal.student),
        step=trial_bytes(job, rehearsal),
    )


def _quick_minutes(job: Job, rehearsal: Rehearsal) -> float | None:
    """Return the minutes from now on, None where a step on random numbers fails: that alone is no reason to stop."""
    datasets = job.specification.problem().datasets
    sizes = {split: Size(dataset.num_images, len(dataset)) for split, dataset in datasets.items()}
    try:
        costs = time_steps(rehearsal, sizes["val"], QUICK)
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
    encoder = assemble.build_text_encoder(study, job.specification.places)
    student = assemble.build_student(study, job.specification.places, encoder=encoder).to(assemble.default_device())
    rehearsal = Rehearsal(study, student, random_texts(study, encoder))
    parameters = parameter_counts(student)
    size = spelled(_trajectory_bytes(job, student))
    lines = [
        as_yaml(study).rstrip(),
        "---",
        f"study:         {job.folder}" + (" (finished)" if job.finished else ""),
        f"student:       {sum(parameters.values()):,} trained parameters "
        f"(image {parameters['image']:,}, text {parameters['text']:,})",
        f"experts:       {count} x {epochs} epochs, {there} already there, {size} of trajectories",
        f"trials:        {job.samples} x {study.budget.outer_steps} outer steps, {_searched(job)}",
        f"mlflow:        {job.mlflow_uri}",
        f"memory:        {_memory(trial_bytes(job, rehearsal))} in an outer step",
        f"time:          {_time(job, rehearsal, encoder)}",
    ]
    return "\n".join(lines)


def _time(job: Job, rehearsal: Rehearsal, encoder: TextEncoder) -> str:
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
    costs = with_caches(time_steps(rehearsal, sizes["val"], THOROUGH), rehearsal, encoder, THOROUGH)
    parts, at_once = add_up(job, costs, sizes), workers(job.study)
    return (
        f"about {about(parts.minutes(at_once))} on {here()} (timed here in {time.perf_counter() - started:.0f} s: "
        f"{parts.shares(at_once)}; less what is cached already)"
    )


def _searched(job: Job) -> str:
    keys = ", ".join(job.study.search)
    return f"a search over {keys}" if job.samples > 1 else "one trial at the defaults"


def _trajectory_bytes(job: Job, student: TwoTower) -> int:
    return job.expert_count * (job.expert_epochs + 1) * snapshot_bytes(student)


def _memory(step: int | None) -> str:
    return "memory that cannot be told" if step is None else f"{spelled(step)} of memory"
