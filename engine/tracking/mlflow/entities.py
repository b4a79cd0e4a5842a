"""What a run in MLflow holds, made from records of the spool: parameters, metrics, data sets, files."""

import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_LOGGED_ARTIFACTS

BATCH = {"params": 100, "tags": 100, "metrics": 1000}
"""MLflow's limits for one call."""


def log_params(client: MlflowClient, run: str, values: Mapping[str, str]) -> None:
    """Log new parameters; one that differs from its first value becomes a tag, because MLflow keeps the first."""
    known = client.get_run(run).data.params
    changed = [RunTag(f"resumed.{name}", value) for name, value in values.items() if known.get(name, value) != value]
    log_all(client, run, "params", [Param(name, value) for name, value in values.items() if name not in known])
    log_all(client, run, "tags", changed)


def log_metrics(client: MlflowClient, run: str, points: Iterable[Sequence[Any]]) -> None:
    """Log numbers of many points, each of its step, its time in ms since 1970 and its values by name; None is NaN."""
    metrics = []
    for step, when, values in points:
        metrics += [Metric(name, math.nan if value is None else value, when, step) for name, value in values.items()]
    log_all(client, run, "metrics", metrics)


def dataset(*, name: str, digest: str, source: str, counts: Mapping[str, int]) -> DatasetInput:
    """Return a data set as MLflow keeps it, with the context ``training``."""
    entity = Dataset(name, digest, "local", json.dumps({"uri": source}), profile=json.dumps(counts))
    return DatasetInput(entity, [InputTag(MLFLOW_DATASET_CONTEXT, "training")])


def log_all(
    client: MlflowClient, run: str, kind: Literal["params", "tags", "metrics"], entities: Sequence[Any]
) -> None:
    """Log any number of entities, in calls as large as MLflow takes them."""
    for start in range(0, len(entities), BATCH[kind]):
        client.log_batch(run, **{kind: entities[start : start + BATCH[kind]]})


def log_table(client: MlflowClient, run: str, *, name: str, columns: Sequence[str], data: Sequence[Any]) -> None:
    """Log a table as MLflow's own call does, which adds the rows again where the table is there already."""
    client.log_dict(run, {"columns": columns, "data": data}, name)
    known = json.loads(client.get_run(run).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
    if (entry := {"path": name, "type": "table"}) not in known:
        client.set_tag(run, MLFLOW_LOGGED_ARTIFACTS, json.dumps([*known, entry]))


def move_artifact(client: MlflowClient, run: str, copy: Path) -> None:
    """Upload the spooled copy and delete it; without a copy, a process that was killed has just delivered it."""
    if copy.is_dir():
        client.log_artifacts(run, str(copy), artifact_path=copy.name)
    elif copy.exists():
        client.log_artifact(run, str(copy))
    shutil.rmtree(copy.parent, ignore_errors=True)
