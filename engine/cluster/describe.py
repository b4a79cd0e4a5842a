"""What a study would do, without doing it: its configuration, what is missing, estimated bytes and minutes."""

from engine import assemble
from engine.cluster.estimate import estimate
from engine.cluster.guards import check_study
from engine.cluster.job import Job
from engine.cluster.needs import parameter_counts, snapshot_bytes
from engine.config import as_yaml
from engine.experts.store import ExpertStore


def describe(job: Job) -> str:
    """Return the resolved configuration and what would be done, as text; nothing is written, and nothing of it done.

    A few steps on random numbers are timed for the minutes that it would take.

    Raises:
        ValueError: the study cannot be run as it is configured.
    """
    check_study(job)
    study, count, epochs = job.study, job.expert_count, job.expert_epochs
    index = ExpertStore(job.specification.expert_folder()).index()
    there = sum(max(index.get(expert, (-1,))) >= epochs for expert in range(count))
    encoder = assemble.build_text_encoder(study, job.specification.places)
    student = assemble.build_student(study, job.specification.places, encoder=encoder)
    parameters = parameter_counts(student)
    size = count * (epochs + 1) * snapshot_bytes(student)
    lines = [
        as_yaml(study).rstrip(),
        "---",
        f"study:         {job.folder}" + (" (finished)" if (job.folder / "table.json").exists() else ""),
        f"student:       {sum(parameters.values()):,} trained parameters "
        f"(image {parameters['image']:,}, text {parameters['text']:,})",
        f"experts:       {count} x {epochs} epochs, {there} already there, {_mebibytes(size)} of trajectories",
        f"trials:        {job.samples} x {study.budget.outer_steps} outer steps, {_searched(job)}",
        f"mlflow:        {job.mlflow_uri}",
        f"time:          {estimate(job, student, encoder)}",
    ]
    return "\n".join(lines)


def _searched(job: Job) -> str:
    keys = ", ".join(job.study.search)
    return f"a search over {keys}" if job.samples > 1 else "one trial at the defaults"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
