"""What MLflow holds of a job, as plain values."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from mlflow import MlflowClient
from mlflow.entities import Run

from engine.studies.job import EXPERIMENT, Job


@dataclass(frozen=True)
class Recorded:
    """One run: its name, how it ended, the run above it, and its artifacts, by their names in a folder."""

    name: str
    status: str
    parent: str | None
    artifacts: frozenset[str]
    folder: Path
    tags: dict[str, str]
    metrics: dict[str, float]
    params: dict[str, str]


def recorded(job: Job) -> tuple[list[Recorded], list[Recorded]]:
    """Return the runs of studies and the runs of trials in the job's database, each sorted by name."""
    client = MlflowClient(job.mlflow_uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    known = {run.info.run_id: run.info.run_name for run in runs}
    found = sorted((_recorded(run, known) for run in runs), key=lambda run: run.name)
    return [run for run in found if run.parent is None], [run for run in found if run.name.startswith("trial_")]


def recorded_rows(job: Job) -> list[Recorded]:
    """Return the runs of single rows of tables in the job's database."""
    client = MlflowClient(job.mlflow_uri)
    runs = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    known = {run.info.run_id: run.info.run_name for run in runs}
    return [_recorded(run, known) for run in runs if run.info.run_name.endswith(" pairs")]


def _recorded(run: Run, names: dict[str, str]) -> Recorded:
    folder = Path(unquote(urlparse(run.info.artifact_uri).path))
    files = frozenset(path.name for path in folder.iterdir()) if folder.exists() else frozenset()
    parent = run.data.tags.get("mlflow.parentRunId")
    above = names.get(parent, "unknown") if parent else None
    return Recorded(
        run.info.run_name, run.info.status, above, files, folder, run.data.tags, run.data.metrics, run.data.params
    )
