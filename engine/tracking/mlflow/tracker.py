"""Studies in MLflow: a run for each study, a nested run for each child; nothing is lost while the server is away."""

import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsFloat

from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING

from engine.io.files import digest
from engine.tracking import Data, Point, Status
from engine.tracking.mlflow.delivery import Delivery, open_run, prepare
from engine.tracking.mlflow.spool import Sender, Spool
from engine.tracking.mlflow.uri import PATIENCE_S, database_file, shown

STUDY_TAG = "vldistill.study"
LONGEST_NAME, LONGEST_TEXT = 250, 6000
NAME = re.compile(r"[\w./: -]+", re.ASCII)


@dataclass(frozen=True)
class RunIdentity:
    """Identity of a study's run: its experiment, its name, the key that finds it again, and its description."""

    experiment: str
    name: str
    key: str
    note: str = ""


class MlflowTracker:
    """One run in MLflow; every call is on the disk when it returns, and in MLflow soon after.

    A study and its children share one spool folder and one sender, both in the process that opened the study. A name
    that MLflow cannot hold, and a number that is not one, is a ValueError.
    """

    def __init__(self, sender: Sender, *, uri: str, run_id: str, channel: str, patience: float) -> None:
        self.uri, self.run_id, self.patience = uri, run_id, patience
        self._sender, self._channel = sender, channel
        self._monitor: Any = None  # of this machine, where it is wished
        self._recorded: dict[tuple[str, int], float | None] = {}
        for record in sender.spool.history(channel, "metrics"):
            self._remember(record.content["step"], record.content["values"])
        for record in sender.spool.history(channel, "curve"):
            for step, _, values in record.content["points"]:
                self._remember(step, values)

    @classmethod
    def open_study(
        cls,
        uri: str,
        identity: RunIdentity,
        *,
        artifacts: Path,
        spool: Path,
        fresh: bool = False,
        patience: float = 30.0,
    ) -> "MlflowTracker":
        """Open the study's run: the one with the same key, which becomes RUNNING again, or a new one.

        Records that an earlier process could not deliver lie below ``spool`` and are sent now. ``fresh`` creates a new
        run even if one exists. ``patience`` (seconds) bounds the wait for a server that takes nothing, at ``finish``
        and, up to 15 s a step, here. With ``MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=true`` the processors, memory, disk,
        network and GPUs of this machine are recorded every 10 s, as MLflow's own variables say.

        Raises:
            ValueError: MLflow cannot hold the key, or rejects the experiment.
            ConnectionError: MLflow does not answer.
        """
        _check_name("key", identity.key)
        wait = min(patience, PATIENCE_S)
        experiment_id = prepare(uri, experiment=identity.experiment, artifacts=artifacts, patience=wait)
        key, note = {STUDY_TAG: identity.key}, _text(identity.note)
        run_id = open_run(uri, experiment_id, identity.name, key=key, note=note, fresh=fresh, patience=wait)
        database = database_file(uri)
        place = database.name if database and database.parent.resolve() == spool.parent.resolve() else uri
        records = Spool(spool.resolve() / digest(place, identity.experiment, identity.key))
        sender = Sender(records, Delivery(records, uri, experiment_id))
        tracker = cls(sender, uri=uri, run_id=run_id, channel=run_id, patience=patience)
        sender.put(run_id, "open", name=identity.name)
        if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            tracker._monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=uri)
            tracker._monitor.start()
        return tracker

    def child(self, name: str, key: str) -> "MlflowTracker":
        """Open the study's nested run ``key``: the one that exists, which becomes RUNNING again, or a new one.

        A child of a child is nested below the study, because MLflow shows two levels.
        """
        _check_name("key", key)
        channel = f"{self.run_id}/{key}"
        tracker = MlflowTracker(self._sender, uri=self.uri, run_id=self.run_id, channel=channel, patience=self.patience)
        self._sender.put(channel, "open", parent=self.run_id, name=name, key=key)
        return tracker

    def params(self, values: Mapping[str, Any]) -> None:
        """Record settings under dotted names; a value is cut at MLflow's limit of 6000 characters.

        If a value differs from an earlier session's, it is kept as the tag ``resumed.<name>``.
        """
        self._sender.put(self._channel, "params", values=_flattened("parameter", values))

    def tags(self, values: Mapping[str, Any]) -> None:
        """Record labels under dotted names; a later value replaces an earlier one."""
        self._sender.put(self._channel, "tags", values=_flattened("tag", values))

    def metrics(self, values: Mapping[str, SupportsFloat], step: int) -> None:
        """Record numbers of one step; a number that is already recorded with the same value is not recorded again.

        MLflow shows numbers that are not finite as NaN. It begins its plots of a comparison with the number that was
        recorded first: the mean recall.
        """
        ordered = dict(sorted(values.items(), key=lambda item: not item[0].endswith("mean_recall")))
        if new := self._new(ordered, int(step)):
            self._sender.put(self._channel, "metrics", step=int(step), values=new)
            self._remember(int(step), new)

    def curve(self, points: Sequence[Point]) -> None:
        """Record numbers of many steps as ``metrics`` does, in one record, each with the time of its step."""
        new = [(point.step, int(1000 * point.time), self._new(point.values, point.step)) for point in points]
        if new := [point for point in new if point[2]]:
            self._sender.put(self._channel, "curve", points=new)
            for step, _, values in new:
                self._remember(step, values)

    def data(self, data: Data) -> None:
        """Record the data set as MLflow shows it: in a column of its own, with its digest."""
        self._sender.put(self._channel, "data", **data._asdict())

    def table(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Record columns of texts and numbers as the artifact ``name``.json, which MLflow shows as a table."""
        rows = [[cell if not isinstance(cell, float) or math.isfinite(cell) else None for cell in cells]
                for cells in zip(*columns.values(), strict=True)]  # fmt: skip
        self._sender.put(self._channel, "table", name=f"{name}.json", columns=list(columns), data=rows)

    def _new(self, values: Mapping[str, SupportsFloat], step: int) -> dict[str, float | None]:
        """Return the numbers that are not yet recorded with these values."""
        new: dict[str, float | None] = {}
        for name, value in values.items():
            _check_name("metric", name)
            try:
                number = float(value)
            except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a tensor of several elements
                raise ValueError(f"metric {name}: got {value!r}, expected one number.") from error
            stored = number if math.isfinite(number) else None
            if (name, step) not in self._recorded or self._recorded[name, step] != stored:
                new[name] = stored
        return new

    def _remember(self, step: int, values: Mapping[str, float | None]) -> None:
        self._recorded.update({(name, step): value for name, value in values.items()})

    def artifact(self, path: Path) -> None:
        """Keep a copy of the file or folder ``path`` under its own name.

        Raises:
            FileNotFoundError: ``path`` does not exist.
        """
        if not path.exists():
            raise FileNotFoundError(f"{path}: expected a file or folder to keep as an artifact, but there is none.")
        copy = self._sender.spool.folder / "files" / uuid.uuid4().hex / path.name
        copy.parent.mkdir(parents=True)
        shutil.copytree(path, copy) if path.is_dir() else shutil.copy2(path, copy)
        self._sender.put(self._channel, "artifact", copy=str(copy.relative_to(self._sender.spool.folder)))

    def finish(self, status: Status) -> None:
        """End the run; a study also ends its unfinished children, as KILLED, and waits until all is delivered.

        A child does not wait.

        Raises:
            ConnectionError: MLflow did not take all records within ``patience`` seconds; they stay on the disk.
            ValueError: MLflow rejected records for good.
        """
        if self._monitor is not None:
            self._monitor.finish()
        self._sender.put(self._channel, "status", status=status)
        if self._channel != self.run_id:
            return
        for channel in self._sender.spool.unfinished():
            self._sender.put(channel, "status", status="KILLED")
        delivered = self._sender.flush(self.patience)
        self._sender.stop()
        if not delivered:
            raise ConnectionError(
                f"MLflow at {shown(self.uri)} did not take everything within {self.patience:g} s "
                f"({self._sender.trouble}); the rest waits in {self._sender.spool.folder} and is sent when the study "
                "is opened again."
            )
        if reasons := self._sender.rejections():
            raise ValueError(
                f"MLflow refused {len(reasons)} record(s) of this study, the first because: {reasons[0]}; "
                f"they are kept in {self._sender.spool.path}, with the reason as their outcome."
            )


def _check_name(kind: str, name: str) -> str:
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME or os.path.normpath(name) != name or name[0] in "./":
        raise ValueError(f"{kind}: got {name!r}, expected at most 250 letters, digits and any of '_-./: ' (no '@').")
    return name


def _flattened(kind: str, values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the values of a nested mapping as texts under dotted names."""
    texts: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            texts |= _flattened(kind, value, f"{prefix}{name}.")
        else:
            texts[_check_name(kind, f"{prefix}{name}")] = _text(value)
    return texts


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"
