"""Calls to MLflow: find or create experiments and runs, deliver records of the spool, sort errors."""

import contextlib
import logging
import os
import re
import shlex
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException
from mlflow.store import db_migrations
from mlflow.tracking.context.registry import resolve_tags
from mlflow.version import VERSION
from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from engine.io.files import exclusive
from engine.io.patience import within
from engine.tracking.mlflow.entities import dataset, log_all, log_metrics, log_params, log_table, move_artifact
from engine.tracking.mlflow.spool import Record, RejectedError, Spool
from engine.tracking.mlflow.uri import (
    KIND,
    PATIENCE_S,
    VARIABLE,
    command,
    database_file,
    follow_move,
    is_database,
    is_server,
    local_folder,
    shown,
)

if "MLFLOW_LOGGING_LEVEL" not in os.environ:
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # its errors are reported here
logging.getLogger("alembic").setLevel(logging.WARNING)

CHILD_TAG = "vldistill.child"
PARENT_TAG = "mlflow.parentRunId"
INHERITED = ("mlflow.source.", "mlflow.user", "data set", "method", "scope", "pairs", "protocol", "commit", "device")
"""Beginnings of the tags that a child takes from its study when it is opened."""
RETRY_S = 0.5
T = TypeVar("T")

INVALID = frozenset(
    {"BAD_REQUEST", "INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"}
)
FORBIDDEN = frozenset({"PERMISSION_DENIED", "UNAUTHENTICATED"})
"""Final when a study is opened; later they may come from a token that is about to be renewed."""


def prepare(uri: str, *, experiment: str, artifacts: Path, patience: float = PATIENCE_S) -> str:
    """Create database, schema and experiment where they are missing, and return the experiment's id.

    Artifacts of a new experiment go to the folder ``artifacts``; a server (``http``) stores them as it is configured.
    A database beside ``artifacts`` follows it where both were moved. Processes prepare a SQLite file one at a time,
    because MLflow's migration fails when two run at once.

    Raises:
        ValueError, ConnectionError: as ``retried`` does, or the experiment is deleted, or its folder of artifacts gone.
    """
    location = None if is_server(uri) else artifacts.resolve().as_uri()
    database = database_file(uri)
    with contextlib.ExitStack() as alone:
        if database:
            alone.enter_context(exclusive(database.with_name(f".{database.name}.lock")))
            follow_move(database, experiment, artifacts)
        found = retried(patience, uri, lambda: _experiment_id(MlflowClient(uri), experiment, location))
    unquoted = Path(uri.removeprefix("sqlite:///")).parent
    if database and unquoted.is_absolute() and unquoted != database.parent:
        with contextlib.suppress(OSError):
            os.removedirs(unquoted)  # MLflow makes the folder of the database by the letters of the URI
    return found


def _experiment_id(client: MlflowClient, name: str, artifact_location: str | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            if artifact_location is not None and (folder := local_folder(artifact_location)):
                folder.mkdir(parents=True, exist_ok=True)
            return str(client.create_experiment(name, artifact_location=artifact_location, tags=KIND))
        except MlflowException:
            if (found := client.get_experiment_by_name(name)) is None:  # else another process has just created it
                raise
    if found.lifecycle_stage == "deleted":
        raise ValueError(f"experiment: {name!r} is deleted in MLflow, expected one to write to; restore or rename it.")
    if artifact_location is not None and (folder := local_folder(found.artifact_location)) and not folder.is_dir():
        made, here = shlex.quote(str(folder)), shlex.quote(str(local_folder(artifact_location)))
        raise ValueError(
            f"experiment: MLflow keeps the files of {name!r} in {str(folder)!r}, expected that folder here; "
            f"type ln -s {here} {made} if it was moved, or mkdir -p {made}."
        )
    for tag, value in KIND.items():
        if tag not in found.tags:  # made before they were set, or by a person
            client.set_experiment_tag(found.experiment_id, tag, value)
    return str(found.experiment_id)


def open_run(
    uri: str, experiment_id: str, name: str, *, key: Mapping[str, str], note: str, fresh: bool, patience: float
) -> str:
    """Return the id of the newest run with the tags ``key``, or of a new one if there is none or ``fresh`` is set.

    The run gets the tags ``key``, its description ``note``, and the source and user of this process. Errors are those
    of ``retried``.
    """
    tags = {**resolve_tags(), **key, "mlflow.note.content": note}

    def opened() -> str:
        client = MlflowClient(uri)
        found = None if fresh else find_run(client, experiment_id, key)
        if found is None:
            return str(client.create_run(experiment_id, run_name=name, tags=tags).info.run_id)
        client.log_batch(found, tags=[RunTag(tag, value) for tag, value in tags.items()])
        return found

    return retried(patience, uri, opened)


def find_run(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> str | None:
    """Return the id of the newest run that has all ``tags``, or None."""
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    runs = client.search_runs([experiment_id], wanted, max_results=1, order_by=["attributes.start_time DESC"])
    return str(runs[0].info.run_id) if runs else None


@dataclass
class Delivery:
    """Turns records of a spool into calls to MLflow; the sender's thread calls it.

    Every operation can be repeated without a second effect, because a process that is killed between a call and its
    mark in the spool leaves the records for the next process to send again.
    """

    spool: Spool
    uri: str
    experiment_id: str
    _runs: dict[str, str] = field(default_factory=dict, init=False)

    def __call__(self, group: Sequence[Record]) -> None:
        """Deliver a group of records of one channel.

        Raises:
            RejectedError: MLflow rejects them for good.
            ConnectionError: MLflow, its database or its storage does not work at present.
        """
        with _sorted_errors(final=INVALID):
            client, record = MlflowClient(self.uri), group[0]
            if record.channel not in self._runs:
                self._runs[record.channel] = self._find_or_create(client, record.channel)
            run, content = self._runs[record.channel], record.content
            match record.operation:
                case "open":
                    client.update_run(run, status="RUNNING", name=content["name"])
                case "params":
                    log_params(client, run, content["values"])
                case "tags":
                    log_all(client, run, "tags", [RunTag(name, value) for name, value in content["values"].items()])
                case "metrics":
                    points = [(one.content["step"], one.time, one.content["values"]) for one in group]
                    log_metrics(client, run, points)
                case "curve":
                    log_metrics(client, run, content["points"])
                case "data":
                    client.log_inputs(run, datasets=[dataset(**content)])
                case "table":
                    log_table(client, run, **content)
                case "artifact":
                    move_artifact(client, run, self.spool.folder / content["copy"])
                case "status":
                    client.set_terminated(run, content["status"], end_time=record.time)

    def _find_or_create(self, client: MlflowClient, channel: str) -> str:
        """Return the run of a channel: the study's, which is named by its id, or a child's with its parent's source."""
        opening = self.spool.history(channel, "open")[0]
        content = opening.content
        if "parent" not in content:
            return channel
        tags = {CHILD_TAG: content["key"], PARENT_TAG: content["parent"]}
        if found := find_run(client, self.experiment_id, tags):
            return found
        study = client.get_run(content["parent"])  # MLflow rejects this when the study was deleted
        tags |= {name: value for name, value in study.data.tags.items() if name.startswith(INHERITED)}
        run = client.create_run(self.experiment_id, start_time=opening.time, run_name=content["name"], tags=tags)
        if study.inputs.dataset_inputs:
            client.log_inputs(run.info.run_id, datasets=study.inputs.dataset_inputs)
        return str(run.info.run_id)


def retried(patience: float, uri: str, call: Callable[[], T]) -> T:
    """Return the result of ``call``, which is repeated for ``patience`` seconds while MLflow does not answer.

    A database is only asked whether it answers; making or migrating its schema takes as long as it takes.

    Raises:
        ValueError: MLflow rejects the call, or its database is of another version.
        ConnectionError: MLflow does not answer within ``patience`` seconds.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            with _sorted_errors(final=INVALID | FORBIDDEN):
                if not is_database(uri):
                    return within(deadline - time.monotonic(), call)
                within(deadline - time.monotonic(), lambda: _connect(uri))
                return call()
        except RejectedError as error:
            raise ValueError(_refusal(uri, str(error))) from error
        except ConnectionError as error:
            if time.monotonic() + RETRY_S > deadline:
                raise ConnectionError(
                    f"No MLflow answered at {shown(uri)} within {patience:g} s ({error}); repeat the command when it "
                    f"does, or unset {VARIABLE}."
                ) from error
        time.sleep(RETRY_S)


def _connect(uri: str) -> None:
    """Read from a database once, because MLflow itself repeats its attempts for minutes.

    Raises:
        RejectedError: the file of a SQLite database cannot be opened, or is none.
    """
    engine = create_engine(uri)
    try:
        inspect(engine).get_table_names()
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error) and "locked" not in str(error):
            raise RejectedError(_in_short(error)) from error
        raise
    finally:
        engine.dispose()


def _refusal(uri: str, reason: str) -> str:
    """Return why a database or a server is of no use, and what to type where it is of another version of MLflow."""
    if (version := re.search(r"database schema \(found version (\w+)", reason)) is None:
        return f"tracking URI: MLflow refuses to work with {shown(uri)!r} ({reason})."
    if any(Path(db_migrations.__file__).parent.glob(f"versions/{version[1]}_*.py")):
        kind, todo = "an older", f"make a copy of it and type {command('db', 'upgrade', uri)}"
    else:
        kind, todo = "a newer", f"install that one, or name another database as {VARIABLE}"
    return f"tracking URI: {shown(uri)} is a database of {kind} MLflow than the {VERSION} here; {todo}."


@contextlib.contextmanager
def _sorted_errors(*, final: frozenset[str]) -> Iterator[None]:
    """Raise MLflow's errors as RejectedError if their code is ``final``, and as ConnectionError otherwise.

    The schema of another version is final too.
    """
    try:
        yield
    except MlflowException as error:
        lasting = error.error_code in final or "database schema" in str(error)
        raise (RejectedError if lasting else ConnectionError)(_in_short(error)) from error
    except (OSError, SQLAlchemyError) as error:
        raise ConnectionError(_in_short(error)) from error


def _in_short(error: Exception) -> str:
    """Return the first sentence of an error's text without passwords, or the system error of a failed connection."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    text = re.sub(r"(//[^/\s:@]*):[^/\s@]*@", r"\1:***@", text)
    reason = re.search(r"\[Errno [-\d]+\] [^\"')]+", text)
    return (reason.group() if reason else text.split(". ")[0][:200]).rstrip(".")
