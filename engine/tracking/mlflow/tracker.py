"""Studies in MLflow: one run a study, one nested run a child, and nothing is lost while the server is away."""

import contextlib
import json
import logging
import math
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, SupportsFloat, TypeVar

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # retrying is done here, where it can be interrupted
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

from mlflow import MlflowClient
from mlflow.entities import Experiment, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags
from sqlalchemy.exc import SQLAlchemyError

from engine.io.files import digest, exclusive
from engine.tracking import Status
from engine.tracking.mlflow.spool import AwayError, Record, RejectedError, Sender, Spool

if "MLFLOW_LOGGING_LEVEL" not in os.environ:
    logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)

T = TypeVar("T")

STUDY_TAG = "vldistill.study"
CHILD_TAG = "vldistill.child"
PARENT_TAG = "mlflow.parentRunId"
NOTE_TAG = "mlflow.note.content"
INHERITED = ("mlflow.source.", "mlflow.user")
LONGEST_PARAM = 6000
LONGEST_TAG = 8000
LONGEST_NAME = 250
BATCH = 100
CHILD_PATIENCE_S = 5.0

NAME = re.compile(r"[\w./: -]+", re.ASCII)
REFUSALS = frozenset(
    {"BAD_REQUEST", "INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"}
)
UNWELCOME = frozenset({"PERMISSION_DENIED", "UNAUTHENTICATED"})


def default_uri(storage: Path) -> str:
    """Return ``MLFLOW_TRACKING_URI`` where it is set, else the sqlite file ``mlflow.db`` in the folder ``storage``."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{storage.resolve() / 'mlflow.db'}"


def prepare(uri: str, *, experiment: str, artifacts: Path, patience: float = 20.0) -> str:
    """Create database, schema and experiment where they are missing, and return the experiment's id.

    Artifacts of a new experiment go to the absolute folder ``artifacts``; a server (``http``) keeps them where it was
    told to. One process at a time prepares a sqlite file, because MLflow's own migration does not survive two.

    Raises:
        ValueError: MLflow refuses the address or the experiment.
        ConnectionError: nothing answers within ``patience`` seconds.
    """
    with _prepared_alone(uri):
        return _within(patience, uri, lambda: _experiment_id(MlflowClient(uri), experiment, _location(uri, artifacts)))


@contextlib.contextmanager
def _prepared_alone(uri: str) -> Iterator[None]:
    if not uri.startswith("sqlite:///"):
        yield
        return
    database = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    with exclusive(database.with_name(f".{database.name}.lock")):
        yield


def _location(uri: str, artifacts: Path) -> str | None:
    return None if _is_server(uri) else artifacts.resolve().as_uri()


def _is_server(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def _experiment_id(client: MlflowClient, name: str, location: str | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return _usable(found)
    try:
        return client.create_experiment(name, artifact_location=location)
    except MlflowException as error:
        found = client.get_experiment_by_name(name)  # another process may have been faster
        if found is None:
            raise error
        return _usable(found)


def _usable(experiment: Experiment) -> str:
    if experiment.lifecycle_stage == "deleted":
        name = experiment.name
        raise ValueError(f"experiment: {name!r} is deleted in MLflow, expected one to write to; restore or rename it.")
    return str(experiment.experiment_id)


def _within(patience: float, uri: str, call: Callable[[], T]) -> T:
    """Return what ``call`` returns, repeating it for ``patience`` seconds while MLflow is away."""
    deadline, delay = time.monotonic() + patience, 0.25
    while True:
        try:
            with _sorted_errors(final=REFUSALS | UNWELCOME):
                return call()
        except RejectedError as error:
            raise ValueError(f"tracking URI: MLflow refuses to work with {uri!r} ({error}).") from error
        except AwayError as error:
            if time.monotonic() + delay > deadline:
                raise ConnectionError(f"No MLflow answered at {uri} within {patience:g} s ({error}).") from error
        time.sleep(delay)
        delay = min(2 * delay, 5.0)


@contextlib.contextmanager
def _sorted_errors(*, final: frozenset[str]) -> Iterator[None]:
    """Turn MLflow's errors into those that are ``final`` (by their codes) and those that time may heal."""
    try:
        yield
    except MlflowException as error:
        kind = RejectedError if error.error_code in final else AwayError
        raise kind(_in_short(error)) from error
    except (OSError, SQLAlchemyError) as error:
        raise AwayError(_in_short(error)) from error


def _in_short(error: Exception) -> str:
    """Return the first sentence of an error's text, its innermost reason where a connection failed."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    reason = re.search(r"\[Errno [-\d]+\] [^\"')]+", text)
    return (reason.group() if reason else text.split(". ")[0][:200]).rstrip(".")


def _batches(values: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    rest = iter(values)
    while batch := list(islice(rest, size)):
        yield batch


class _Delivery:
    """Turns spooled records into calls to MLflow; runs in the sender's thread."""

    def __init__(self, spool: Spool, uri: str, experiment_id: str) -> None:
        self.spool = spool
        self.uri = uri
        self.experiment_id = experiment_id
        self._runs: dict[str, str] = {}

    def __call__(self, channel: str, records: Sequence[Record]) -> None:
        operations = {
            "open": self._open,
            "params": self._params,
            "tags": self._tags,
            "metrics": self._metrics,
            "artifact": self._artifact,
            "status": self._status,
        }
        with _sorted_errors(final=REFUSALS):
            client = MlflowClient(self.uri)
            operations[records[0]["op"]](client, self._run(client, channel), records)

    def _run(self, client: MlflowClient, channel: str) -> str:
        """Return the run of ``channel``: remembered, found by its key, or created."""
        if channel not in self._runs:
            opening = next(record for record in self.spool.history(channel) if record["op"] == "open")
            self._runs[channel] = opening.get("run_id") or self._child(client, opening)
        return self._runs[channel]

    def _child(self, client: MlflowClient, opening: Record) -> str:
        tags = {CHILD_TAG: opening["key"], PARENT_TAG: opening["parent"]}
        found = find_run(client, self.experiment_id, tags)
        if found is not None:
            return found
        parent = client.get_run(opening["parent"])  # refuses where the study was deleted
        tags |= {name: value for name, value in parent.data.tags.items() if name.startswith(INHERITED)}
        run = client.create_run(self.experiment_id, start_time=opening["time"], run_name=opening["name"], tags=tags)
        return str(run.info.run_id)

    def _open(self, client: MlflowClient, run: str, records: Sequence[Record]) -> None:
        client.update_run(run, status="RUNNING", name=records[0]["name"])

    def _params(self, client: MlflowClient, run: str, records: Sequence[Record]) -> None:
        """Log new parameters; one that differs from an earlier session's becomes a tag, as MLflow keeps the first."""
        values, known = records[0]["values"], client.get_run(run).data.params
        new = [Param(name, value) for name, value in values.items() if name not in known]
        changed = {f"resumed.{name}": value for name, value in values.items() if known.get(name, value) != value}
        for params in _batches(new):
            client.log_batch(run, params=params)
        self._tags(client, run, [{"values": changed}])

    def _tags(self, client: MlflowClient, run: str, records: Sequence[Record]) -> None:
        for tags in _batches(RunTag(name, value[:LONGEST_TAG]) for name, value in records[0]["values"].items()):
            client.log_batch(run, tags=tags)

    def _metrics(self, client: MlflowClient, run: str, records: Sequence[Record]) -> None:
        numbers = (
            Metric(name, math.nan if value is None else value, record["time"], record["step"])
            for record in records
            for name, value in record["values"].items()
        )
        for metrics in _batches(numbers, 1000):
            client.log_batch(run, metrics=metrics)

    def _artifact(self, client: MlflowClient, run: str, records: Sequence[Record]) -> None:
        """Upload the spooled copy and delete it; where it is gone, an earlier process had just delivered it."""
        copy = self.spool.folder / records[0]["copy"]
        if copy.is_dir():
            client.log_artifacts(run, str(copy), artifact_path=copy.name)
        elif copy.exists():
            client.log_artifact(run, str(copy))
        shutil.rmtree(copy.parent, ignore_errors=True)

    def _status(self, client: MlflowClient, run: str, records: Sequence[Record]) -> None:
        client.set_terminated(run, records[0]["status"], end_time=records[0]["time"])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_runs": {}}


def find_run(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> str | None:
    """Return the id of the newest run that carries all ``tags``, or None."""
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    runs = client.search_runs([experiment_id], wanted, max_results=1, order_by=["attributes.start_time DESC"])
    return str(runs[0].info.run_id) if runs else None


@dataclass(frozen=True)
class _Study:
    uri: str
    experiment_id: str
    run_id: str
    patience: float

    @property
    def channel(self) -> str:
        """Name of the study's records in the spool; its children's names begin with it."""
        return self.run_id[:12]


class MlflowTracker:
    """One run in MLflow. Everything said to it is on the disk when the call returns, and in MLflow soon after.

    The study and its children share one spool folder and one sending thread. A tracker can be pickled; each copy opens
    its own connection when it is first used.
    """

    def __init__(self, sender: Sender, study: _Study, channel: str) -> None:
        self._sender = sender
        self._study = study
        self._channel = channel
        self._refused_before = len(sender.spool.reasons(study.channel))
        self._logged: dict[tuple[str, int], float | None] | None = None

    @classmethod
    def open_study(
        cls,
        uri: str,
        *,
        experiment: str,
        name: str,
        key: str,
        note: str,
        artifacts: Path,
        spool: Path,
        fresh: bool = False,
        patience: float = 60.0,
    ) -> "MlflowTracker":
        """Open the run of the study ``key``: the one that exists, running again, or a new one.

        ``note`` is its description. What an earlier process could not deliver lies below ``spool`` and is sent now.
        ``fresh`` starts a new run although one exists. ``patience`` (seconds) bounds the wait for a server that is
        away, at ``finish`` and, up to 20 s, here.

        Raises:
            ValueError: ``key`` or ``experiment`` cannot be used.
            ConnectionError: no MLflow answers.
        """
        _check_name("key", key)
        experiment_id = prepare(uri, experiment=experiment, artifacts=artifacts, patience=min(patience, 20.0))
        tags = {**resolve_tags(), STUDY_TAG: key, NOTE_TAG: note[:LONGEST_TAG]}
        run_id = _within(patience, uri, lambda: _open_run(MlflowClient(uri), experiment_id, name, tags, fresh))
        study = _Study(uri, experiment_id, run_id, patience)
        records = Spool(spool.resolve() / digest(uri, experiment, key))
        tracker = cls(Sender(records, _Delivery(records, uri, experiment_id)), study, study.channel)
        tracker._put("open", run_id=run_id, name=name)
        return tracker

    @property
    def study_id(self) -> str:
        """MLflow's id of the study's run."""
        return self._study.run_id

    @property
    def address(self) -> str:
        """Where to look at the study: its page on a server, or the command that serves the database."""
        study = self._study
        if not _is_server(study.uri):
            return f"mlflow server --backend-store-uri {study.uri}"
        page = f"{study.uri.rstrip('/')}/#/experiments/{study.experiment_id}/runs/{study.run_id}"
        return f"{page}?workflowType=machine_learning"  # without it, a page about chat agents

    @property
    def folder(self) -> Path:
        """Folder of the spool, where what is not delivered waits."""
        return self._sender.spool.folder

    def child(self, name: str, key: str) -> "MlflowTracker":
        """Open the nested run ``key`` of this study: the one that exists, running again, or a new one.

        Children of a child are kept below the study, because MLflow shows two levels.
        """
        _check_name("key", key)
        tracker = MlflowTracker(self._sender, self._study, f"{self._study.channel}.{digest(key)}")
        tracker._put("open", parent=self._study.run_id, name=name, key=key)
        return tracker

    def params(self, values: Mapping[str, Any]) -> None:
        """Record settings under dotted names; long values are cut at MLflow's limit of 6000 characters.

        A value that differs from an earlier session's is kept as the tag ``resumed.<name>``.

        Raises:
            ValueError: a name MLflow cannot hold.
        """
        self._put("params", values=dict(_flattened(values)))

    def tags(self, values: Mapping[str, str]) -> None:
        """Record labels; a later value replaces an earlier one."""
        self._put("tags", values={_check_name("tag", name): str(value) for name, value in values.items()})

    def metrics(self, values: Mapping[str, SupportsFloat], step: int) -> None:
        """Record numbers of one step; one already recorded with the same value is not recorded again.

        What is not finite is shown by MLflow as NaN.

        Raises:
            ValueError: a name MLflow cannot hold, or a value that is no number.
        """
        logged = self._history()
        numbers = {_check_name("metric", name): _number(name, value) for name, value in values.items()}
        new = {
            name: value for name, value in numbers.items() if (name, step) not in logged or logged[name, step] != value
        }
        if new:
            logged.update({(name, step): value for name, value in new.items()})
            self._put("metrics", step=int(step), values=new)

    def artifact(self, path: Path) -> None:
        """Keep a copy of the file or folder ``path`` under its own name.

        Raises:
            FileNotFoundError: there is no ``path``.
        """
        if not path.exists():
            raise FileNotFoundError(f"{path}: expected a file or folder to keep as an artifact, but there is none.")
        copy = self.folder / "files" / uuid.uuid4().hex / path.name
        copy.parent.mkdir(parents=True)
        shutil.copytree(path, copy) if path.is_dir() else shutil.copy2(path, copy)
        self._put("artifact", copy=str(copy.relative_to(self.folder)))

    def finish(self, status: Status) -> None:
        """End the run; the study's own end also ends, as KILLED, children that nobody finished.

        A child waits only while MLflow answers. The study waits until everything is delivered, ``patience`` seconds at
        most, and then says what is missing.

        Raises:
            ConnectionError: MLflow was away for so long; everything is kept on the disk.
            ValueError: MLflow refused something for good.
        """
        self._put("status", status=status)
        if self._channel == self._study.channel:
            self._finish_study()
        else:
            self._sender.flush(CHILD_PATIENCE_S, channel=self._channel, patient=False)

    def _finish_study(self) -> None:
        for channel in self._sender.spool.unfinished():
            self._sender.put(channel, {"op": "status", "status": "KILLED"})
        delivered = self._sender.flush(self._study.patience)
        self._sender.stop()
        if not delivered:
            raise ConnectionError(
                f"MLflow at {self._study.uri} did not take everything within {self._study.patience:g} s "
                f"({self._sender.trouble}); the rest waits in {self.folder} and is sent when the study is opened again."
            )
        self._report_refusals()

    def _report_refusals(self) -> None:
        reasons = self._sender.spool.reasons(self._channel)[self._refused_before :]
        if reasons:
            raise ValueError(
                f"MLflow refused {len(reasons)} record(s) of this study, the first because: {reasons[0]}; "
                f"they are kept in {self._sender.spool.rejected}."
            )

    def _put(self, operation: str, **fields: Any) -> None:
        self._sender.put(self._channel, {"op": operation, **fields})

    def _history(self) -> dict[tuple[str, int], float | None]:
        """Return all numbers ever recorded in this run, read from the spool the first time."""
        if self._logged is None:
            self._logged = {
                (name, record["step"]): value
                for record in self._sender.spool.history(self._channel)
                if record["op"] == "metrics"
                for name, value in record["values"].items()
            }
        return self._logged

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_logged": None}


def _open_run(client: MlflowClient, experiment_id: str, name: str, tags: Mapping[str, str], fresh: bool) -> str:
    """Return the study's run, found by its key or created, with ``tags`` as they are now."""
    found = None if fresh else find_run(client, experiment_id, {STUDY_TAG: tags[STUDY_TAG]})
    if found is None:
        return str(client.create_run(experiment_id, run_name=name, tags=dict(tags)).info.run_id)
    client.log_batch(found, tags=[RunTag(tag, value) for tag, value in tags.items()])
    return found


def _check_name(kind: str, name: str) -> str:
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME or os.path.normpath(name) != name or name[0] in "./":
        raise ValueError(f"{kind}: got {name!r}, expected at most 250 letters, digits and any of '_-./: ' (no '@').")
    return name


def _number(name: str, value: SupportsFloat) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: torch, several elements
        raise ValueError(f"metric {name}: got {value!r}, expected one number.") from error
    return number if math.isfinite(number) else None


def _flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted names and texts of a nested mapping."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield _check_name("parameter", f"{prefix}{name}"), _text(value)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= LONGEST_PARAM else f"{text[: LONGEST_PARAM - 1]}…"
