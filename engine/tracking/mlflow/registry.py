"""Sets in MLflow's registry of models, and files that a run keeps.

Where MLflow does not answer, each function raises ConnectionError.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from engine.tracking.mlflow.delivery import PARENT_TAG, find_run, retried
from engine.tracking.mlflow.tracker import STUDY_TAG
from engine.tracking.mlflow.uri import PATIENCE_S, database_file, shown

SCHEME = "models:/"
ADDRESS = re.compile(rf"{SCHEME}(?P<name>[\w .-]+?)(/(?P<version>[1-9]\d*|latest))?", re.ASCII)
EXPECTED = "letters, digits, blanks and any of '_-.'"
GONE = "RESOURCE_DOES_NOT_EXIST"

T = TypeVar("T")


class Version(NamedTuple):
    """A version of a registered set, and the run that keeps it."""

    name: str
    number: str
    run_id: str


class Run(NamedTuple):
    """A run: its id, its name, its tags, and the run above it."""

    run_id: str
    name: str
    tags: Mapping[str, str]
    parent: str | None


def register(uri: str, name: str, run: Run, file: str, *, tags: Mapping[str, object], note: str) -> Version:
    """Register the ``file`` that a run keeps as the next version of ``name``, or return the version that it already is.

    Raises:
        ValueError: MLflow cannot hold the name, or the run keeps no such file.
    """
    if not ADDRESS.fullmatch(f"{SCHEME}{name}"):
        raise ValueError(f"--register is {name!r}, expected {EXPECTED}.")

    def registered(client: MlflowClient) -> Version:
        _check_kept(client, run, file)
        known = client.search_model_versions(f"name='{name}'")
        if not known and not client.search_registered_models(f"name='{name}'"):
            client.create_registered_model(name, description="A distilled set of vldistill: vldistill evaluate --set.")
        texts, source = {key: str(value) for key, value in tags.items()}, f"runs:/{run.run_id}/{file}"
        same = [one for one in known if one.run_id == run.run_id]
        new = same[0] if same else client.create_model_version(name, source, run.run_id, tags=texts, description=note)
        return Version(name, str(new.version), run.run_id)

    return _asked(uri, registered)


def version_at(uri: str, address: str) -> Version:
    """Return the registered set at ``models:/NAME/VERSION``; without a version, or with ``latest``, the newest.

    Raises:
        ValueError: it is no such address, or MLflow has no such version.
    """
    found = ADDRESS.fullmatch(address)
    if found is None:
        raise ValueError(f"--set is {address!r}, expected models:/NAME or models:/NAME/VERSION.")
    name, wanted = found["name"], found["version"] or "latest"

    def looked_up(client: MlflowClient) -> Version:
        versions = sorted(client.search_model_versions(f"name='{name}'"), key=lambda one: int(one.version))
        chosen = versions[-1:] if wanted == "latest" else [one for one in versions if str(one.version) == wanted]
        if not chosen:
            there = ", ".join(str(one.version) for one in versions)
            there = f"its versions are {there}" if versions else "no set has this name"
            raise ValueError(f"--set is {address!r}, but {there} in MLflow at {shown(uri)}.")
        return Version(name, str(chosen[0].version), str(chosen[0].run_id))

    return _asked(uri, looked_up)


def run_with(uri: str, run_id: str) -> Run:
    """Return the run with an id.

    Raises:
        ValueError: MLflow knows no such run.
    """

    def found(client: MlflowClient) -> Run:
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code not in (GONE, "INVALID_PARAMETER_VALUE"):
                raise
            raise ValueError(f"run {run_id!r}: MLflow at {shown(uri)} knows no run with this id.") from error
        return Run(run_id, run.info.run_name, run.data.tags, run.data.tags.get(PARENT_TAG))

    return _asked(uri, found)


def run_of_study(uri: str, experiment: str, key: str) -> Run | None:
    """Return the newest run of the study ``key``, or None."""

    def found(client: MlflowClient) -> str | None:
        there = client.get_experiment_by_name(experiment)
        return find_run(client, there.experiment_id, {STUDY_TAG: key}) if there else None

    run_id = _asked(uri, found)
    return run_with(uri, run_id) if run_id else None


def kept_file(uri: str, run: Run, file: str, folder: Path) -> Path:
    """Copy a file that a run keeps into ``folder``, and return the copy.

    Raises:
        ValueError: the run keeps no such file.
    """

    def copied(client: MlflowClient) -> Path:
        _check_kept(client, run, file)
        return Path(client.download_artifacts(run.run_id, file, str(folder)))

    return _asked(uri, copied)


def _check_kept(client: MlflowClient, run: Run, file: str) -> None:
    if file not in [one.path for one in client.list_artifacts(run.run_id)]:
        above = f"; it belongs to the run {run.parent}" if run.parent else ""
        raise ValueError(f"run {run.run_id!r} ({run.name}) keeps no {file}, expected the run of a whole study{above}.")


def _asked(uri: str, call: Callable[[MlflowClient], T]) -> T:
    """Return what ``call`` returns, repeated while MLflow does not answer; a SQLite file has to be there."""
    database = database_file(uri)
    if database and not database.is_file():
        raise ValueError(f"MLflow: {database} is not there, expected the database in which the study was recorded.")
    return retried(PATIENCE_S, uri, lambda: call(MlflowClient(uri)))
