"""What a study would do, without doing it: its configuration, what is missing, and estimated bytes."""

import torch

from engine import assemble
from engine.cluster.job import Job
from engine.config import as_yaml
from engine.experts.store import ExpertStore
from engine.rng import stream


def describe(job: Job) -> str:
    """Return the resolved configuration and what would be done, as text; nothing is written or trained."""
    study, epochs = job.study, job.expert_epochs
    index = ExpertStore(job.specification.expert_folder()).index()
    there = sum(max(index.get(expert, (-1,))) >= epochs for expert in range(study.experts.count))
    image, text = _parameter_counts(job)
    snapshots = 4 * (image + text) * (epochs + 1)
    lines = [
        as_yaml(study).rstrip(),
        "---",
        f"study:         {job.folder}" + (" (finished)" if (job.folder / "table.json").exists() else ""),
        f"student:       {image + text:,} trained parameters (image {image:,}, text {text:,})",
        f"experts:       {study.experts.count} x {epochs} epochs, {there} already there, "
        f"{_mebibytes(study.experts.count * snapshots)} of trajectories",
        f"trials:        {job.samples} x {study.budget.outer_steps} outer steps of {_searched(job)}",
        f"mlflow:        {job.mlflow_uri}",
    ]
    return "\n".join(lines)


def _searched(job: Job) -> str:
    keys = ", ".join(job.study.search)
    return f"a search over {keys}" if job.samples > 1 else "one trial at the defaults"


def _parameter_counts(job: Job) -> tuple[int, int]:
    """Count the trained parameters of both towers; the text encoder is built, but not fitted or run."""
    places = job.specification.places
    encoder = assemble.build_text_encoder(job.study, places)
    student = assemble.build_student(job.study, places, text_features=encoder.dim)
    with torch.no_grad():
        image, text = (tower.fresh(stream(0, "count")) for tower in student.towers())
    return sum(v.numel() for v in image.values()), sum(v.numel() for v in text.values())


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
