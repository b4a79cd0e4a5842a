import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from engine.tracking import Data, Point, Tracker
from engine.tracking.mlflow.delivery import Delivery, prepare
from engine.tracking.mlflow.tracker import MlflowTracker, RunIdentity

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")  # inside MLflow

Open = Callable[..., MlflowTracker]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory, schema: Path) -> Path:
    folder = tmp_path_factory.mktemp("storage")
    shutil.copy(schema, folder / "mlflow.db")
    return folder


@pytest.fixture(scope="module")
def uri(storage: Path) -> str:
    return f"sqlite:///{storage / 'mlflow.db'}"


@pytest.fixture
def open_study(storage: Path, uri: str, request: pytest.FixtureRequest) -> Open:
    """Open a study whose key is the test's name."""

    def opened(**changes: Any) -> MlflowTracker:
        identity = RunIdentity("tests", "a study", request.node.name, changes.pop("note", "why?"))
        return MlflowTracker.open_study(
            uri, identity, artifacts=storage / "artifacts", spool=storage / "spool", **changes
        )

    return opened


def study_run(uri: str, tracker: MlflowTracker) -> Run:
    return MlflowClient(uri).get_run(tracker.run_id)


def children(uri: str, tracker: MlflowTracker) -> dict[str, Run]:
    run = study_run(uri, tracker)
    wanted = f"tags.mlflow.parentRunId = '{tracker.run_id}'"
    return {found.info.run_name: found for found in MlflowClient(uri).search_runs([run.info.experiment_id], wanted)}


def history(uri: str, run: Run, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in MlflowClient(uri).get_metric_history(run.info.run_id, name)]


def test_a_study_with_children(uri: str, open_study: Open, tmp_path: Path) -> None:
    study = open_study()
    assert isinstance(study, Tracker)
    study.params({"method": {"name": "lors", "inner_lr": {"image": 0.1}}, "seeds": [0, 1], "empty": {}, "none": None})
    for number, status in enumerate(("FINISHED", "FAILED", "KILLED")):
        child = study.child(f"trial {number}", f"k{number}")
        child.metrics({"val/IR1": 1.5 * number, "loss": 0.5}, 3)
        child.tags({"stopped": "early"})
        child.finish(status)
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"png")
    study.artifact(picture)
    picture.unlink()
    study.finish("FINISHED")

    run = study_run(uri, study)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "a study"
    assert run.data.tags["mlflow.note.content"] == "why?"
    assert run.data.params == {
        "method.name": "lors",
        "method.inner_lr.image": "0.1",
        "seeds": "[0, 1]",
        "empty": "{}",
        "none": "null",
    }
    assert [file.path for file in MlflowClient(uri).list_artifacts(study.run_id)] == ["picture.png"]
    found = children(uri, study)
    assert {name: child.info.status for name, child in found.items()} == {
        "trial 0": "FINISHED",
        "trial 1": "FAILED",
        "trial 2": "KILLED",
    }
    assert found["trial 2"].data.metrics == {"val/IR1": 3.0, "loss": 0.5}
    assert found["trial 2"].data.tags["stopped"] == "early"


def test_the_same_keys_find_the_same_runs_running_again(uri: str, open_study: Open) -> None:
    first = open_study()
    first.child("trial", "k").metrics({"loss": 1.0}, 0)
    first.finish("KILLED")
    assert children(uri, first)["trial"].info.status == "KILLED", "a study's end ends children nobody finished"

    again = open_study(note="because")
    child = again.child("trial, resumed", "k")
    child.metrics({"loss": 1.0}, 0)
    child.metrics({"loss": 0.5}, 1)
    assert again._sender.flush(10)
    assert again.run_id == first.run_id
    run = study_run(uri, again)
    assert (run.info.status, run.data.tags["mlflow.note.content"]) == ("RUNNING", "because")
    assert children(uri, again)["trial, resumed"].info.status == "RUNNING"
    again.finish("FINISHED")
    found = children(uri, again)
    assert list(found) == ["trial, resumed"]
    assert history(uri, found["trial, resumed"], "loss") == [(0, 1.0), (1, 0.5)], "a repeated step is logged once"


def test_a_curve_has_its_own_times_and_is_logged_once(uri: str, open_study: Open) -> None:
    first = open_study()
    points = [Point(step, 1000.5 + step, {"loss": step / 2, "gradient/image": 1.0}) for step in range(1, 4)]
    first.child("trial", "k").curve(points)
    first.finish("KILLED")

    again = open_study()
    child = again.child("trial", "k")
    child.curve([*points, Point(4, 2000.0, {"loss": math.nan, "gradient/image": 1.0})])
    again.finish("FINISHED")
    run = children(uri, again)["trial"]
    losses = MlflowClient(uri).get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.timestamp) for point in losses] == [
        (1, 1001500), (2, 1002500), (3, 1003500), (4, 2000000)
    ]  # fmt: skip
    assert [point.value for point in losses[:3]] == [0.5, 1.0, 1.5]
    assert math.isnan(losses[3].value)
    assert len(history(uri, run, "gradient/image")) == 4


def test_children_have_the_tags_and_the_data_of_their_study(uri: str, open_study: Open) -> None:
    study = open_study()
    study.tags({"data set": "shapes", "commit": "abc", "versions": {"torch": "2"}})
    for _ in range(2):  # again, as after an interruption
        study.data(Data("shapes", "1234", "shapes", {"photos of train": 3}))
    child = study.child("random, 100 pairs", "row/1")
    child.tags({"method": "random"})
    study.finish("FINISHED")
    own = children(uri, study)["random, 100 pairs"]
    assert own.data.tags.items() >= {"data set": "shapes", "commit": "abc", "method": "random"}.items()
    assert "versions.torch" not in own.data.tags
    for run in (own, study_run(uri, study)):
        [used] = run.inputs.dataset_inputs
        assert (used.dataset.name, used.dataset.digest) == ("shapes", "1234")
        assert json.loads(used.dataset.profile) == {"photos of train": 3}


def test_fresh_starts_a_new_run_and_later_finds_it(uri: str, open_study: Open) -> None:
    old = open_study()
    old.child("trial", "k").metrics({"loss": 1.0}, 0)
    old.finish("FINISHED")
    new = open_study(fresh=True)
    new.child("trial", "k").metrics({"loss": 2.0}, 0)
    new.finish("FINISHED")
    assert new.run_id != old.run_id
    assert history(uri, children(uri, new)["trial"], "loss") == [(0, 2.0)]
    found = open_study()
    found.finish("FINISHED")
    assert found.run_id == new.run_id


def test_parameters_on_resume(uri: str, open_study: Open) -> None:
    first = open_study()
    first.params({"lr": 0.1, "cpu": 1, "long": "x" * 9000})
    first.finish("KILLED")
    again = open_study()
    again.params({"lr": 0.1, "cpu": 2, "long": "x" * 9000, "new": True})
    again.finish("FINISHED")
    run = study_run(uri, again)
    assert {name: value for name, value in run.data.params.items() if name != "long"} == {
        "lr": "0.1",
        "cpu": "1",
        "new": "true",
    }
    assert len(run.data.params["long"]) == 6000
    assert run.data.params["long"].endswith("x…")
    assert run.data.tags["resumed.cpu"] == "2"


def test_more_parameters_than_one_batch(uri: str, open_study: Open) -> None:
    study = open_study()
    study.params({f"p{number}": number for number in range(250)})
    study.metrics({f"m{number}": number for number in range(1100)}, 0)
    study.finish("FINISHED")
    run = study_run(uri, study)
    assert (len(run.data.params), len(run.data.metrics)) == (250, 1100)


def test_numbers_that_are_not_finite_are_shown_as_nan(uri: str, open_study: Open) -> None:
    study = open_study()
    for step, value in enumerate((1.0, math.nan, math.inf, 2.0)):
        study.metrics({"loss": value}, step)
    study.finish("FINISHED")
    values = [value for _, value in history(uri, study_run(uri, study), "loss")]
    assert [math.isnan(value) for value in values] == [False, True, True, False]


def test_tags_are_flattened_and_replaced(uri: str, open_study: Open) -> None:
    study = open_study()
    study.tags({"commit": "abc", "versions": {"torch": "2.9", "python": "3.11"}})
    study.tags({"commit": "abd+changes"})
    study.finish("FINISHED")
    tags = study_run(uri, study).data.tags
    assert (tags["commit"], tags["versions.torch"], tags["versions.python"]) == ("abd+changes", "2.9", "3.11")


def test_a_group_that_is_delivered_twice_is_recorded_once(uri: str, open_study: Open) -> None:
    """A process that is killed between the call and its mark leaves a group that was delivered."""
    study = open_study()
    study.child("trial", "k").metrics({"loss": 1.0, "nan": math.nan}, 0)
    study.finish("FINISHED")
    spool = study._sender.spool
    delivery = Delivery(spool, uri, study_run(uri, study).info.experiment_id)
    for operation in ("open", "metrics", "status"):
        delivery(spool.history(f"{study.run_id}/k", operation)[:1])
    [child] = children(uri, study).values()
    assert history(uri, child, "loss") == [(0, 1.0)]
    assert len(history(uri, child, "nan")) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from engine.tracking.mlflow.tracker import MlflowTracker, RunIdentity

storage = Path(sys.argv[2])
paths = {"artifacts": storage / "artifacts", "spool": storage / "spool"}
study = MlflowTracker.open_study(sys.argv[1], RunIdentity("tests", "killed", "killed"), **paths)
child = study.child("trial", "k")
child.params({"lr": 0.1})
for step in range(30):
    child.metrics({"loss": float(step)}, step)
child.artifact(Path(sys.argv[3]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_its_records_to_the_next(uri: str, storage: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("kept")
    command = [sys.executable, "-c", KILLED, uri, str(storage), str(tmp_path / "note.txt")]
    assert subprocess.run(command, timeout=120).returncode == -signal.SIGKILL
    paths = {"artifacts": storage / "artifacts", "spool": storage / "spool"}
    study = MlflowTracker.open_study(uri, RunIdentity("tests", "again", "killed"), **paths)
    study.finish("FINISHED")
    [child] = children(uri, study).values()
    assert (child.info.run_name, child.info.status, child.data.params) == ("trial", "KILLED", {"lr": "0.1"})
    assert history(uri, child, "loss") == [(step, float(step)) for step in range(30)]
    assert [file.path for file in MlflowClient(uri).list_artifacts(child.info.run_id)] == ["note.txt"]


def test_a_folder_as_artifact(uri: str, open_study: Open, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "manifest.json").write_text("{}")
    study = open_study()
    study.artifact(tmp_path / "set")
    study.finish("FINISHED")
    assert [file.path for file in MlflowClient(uri).list_artifacts(study.run_id, "set")] == ["set/manifest.json"]
    assert not any((study._sender.spool.folder / "files").iterdir()), "the spooled copy is gone"


def test_a_table_is_shown_once_and_replaced(uri: str, open_study: Open) -> None:
    study = open_study()
    for recall in (19.0, 20.5):
        study.table("results", {"set": ["lors", "random"], "recall": [recall, None]})
    study.table("pairs", {"pair": [1], "caption": ["a dog"]})
    study.finish("FINISHED")
    run, client = study_run(uri, study), MlflowClient(uri)
    shown = json.loads(Path(client.download_artifacts(run.info.run_id, "results.json")).read_text(encoding="utf-8"))
    assert shown == {"columns": ["set", "recall"], "data": [["lors", 20.5], ["random", None]]}
    tagged = json.loads(run.data.tags["mlflow.loggedArtifacts"])
    assert [one["path"] for one in tagged] == ["results.json", "pairs.json"]


def test_the_machine_is_watched_where_it_is_wished(uri: str, open_study: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    study = open_study()
    deadline = time.monotonic() + 60
    while "system/cpu_utilization_percentage" not in study_run(uri, study).data.metrics:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    study.finish("FINISHED")
    assert study_run(uri, study).info.status == "FINISHED"


def test_what_cannot_be_recorded_is_said_at_once(open_study: Open, tmp_path: Path) -> None:
    study = open_study()
    with pytest.raises(ValueError, match=r"metric: got 'r@1', expected .*no '@'"):
        study.metrics({"r@1": 1.0}, 0)
    with pytest.raises(ValueError, match=r"metric loss: got tensor.*, expected one number"):
        study.metrics({"loss": torch.zeros(2)}, 0)
    with pytest.raises(ValueError, match=r"parameter: got 'a\.b@c'"):
        study.params({"a": {"b@c": 1}})
    with pytest.raises(FileNotFoundError, match=r"nothing\.png: expected a file or folder"):
        study.artifact(tmp_path / "nothing.png")
    with pytest.raises(ValueError, match=r"key: got \"it's\""):
        study.child("a", "it's")
    study.finish("FINISHED")


def test_a_deleted_run_is_reported_and_its_records_kept(uri: str, open_study: Open) -> None:
    study = open_study()
    assert study._sender.flush(10)
    MlflowClient(uri).delete_run(study.run_id)
    study.metrics({"loss": 1.0}, 0)
    with pytest.raises(ValueError, match=r"MLflow refused 2 record\(s\) of this study, .*spool\.db, with the reason"):
        study.finish("FINISHED")
    [record] = study._sender.spool.history(study.run_id, "metrics")
    assert record.content["values"] == {"loss": 1.0}


@pytest.mark.slow
def test_several_processes_prepare_one_database(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from engine.tracking.mlflow.delivery import prepare\n"
        "print(prepare(sys.argv[1], experiment='together', artifacts=Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}", str(tmp_path / "artifacts")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
    answers = [process.communicate(timeout=60) for process in processes]
    assert answers == [("1\n", ""), ("1\n", "")], "the same experiment, and a silent console"


def test_a_deleted_experiment_is_not_written_to(uri: str, tmp_path: Path) -> None:
    MlflowClient(uri).delete_experiment(prepare(uri, experiment="old", artifacts=tmp_path))
    with pytest.raises(ValueError, match="experiment: 'old' is deleted in MLflow"):
        prepare(uri, experiment="old", artifacts=tmp_path)


class Server:
    """A real MLflow server on loopback that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}", "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "served")]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, cwd=self.folder, start_new_session=True
            )
        self._wait()

    def _wait(self) -> None:
        for _ in range(900):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise TimeoutError((self.folder / "server.log").read_text())

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=10)
            self.process = None


@pytest.fixture
def server(tmp_path: Path, uri: str) -> Iterator[Server]:
    prepare(uri, experiment="tests", artifacts=tmp_path)  # its schema is copied, as making one takes seconds
    shutil.copy(uri.removeprefix("sqlite:///"), tmp_path / "server.db")
    made = Server(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.mark.slow
def test_a_server_that_goes_away_loses_nothing(server: Server, tmp_path: Path) -> None:
    def opened(patience: float = 20.0) -> MlflowTracker:
        paths = {"artifacts": tmp_path / "artifacts", "spool": tmp_path / "spool"}
        return MlflowTracker.open_study(server.uri, RunIdentity("away", "s", "k"), patience=patience, **paths)

    study = opened(patience=3.0)
    child = study.child("trial 0", "0")
    child.metrics({"loss": 0.0}, 0)
    assert study._sender.flush(20)
    server.stop()

    start = time.monotonic()
    for step in range(1, 100):
        child.metrics({"loss": float(step) if step != 50 else math.nan}, step)
    (tmp_path / "note.txt").write_text("made while away")
    child.artifact(tmp_path / "note.txt")
    child.finish("FINISHED")
    study.child("trial 1", "1").finish("FAILED")
    assert time.monotonic() - start < 5, "the caller does not wait for a server that is away"
    with pytest.raises(ConnectionError, match=r"did not take everything within 3 s \(.*refused\).*spool"):
        study.finish("FINISHED")

    server.start()
    again = opened()
    assert again.run_id == study.run_id
    again.finish("FINISHED")
    found = children(server.uri, again)
    assert {name: run.info.status for name, run in found.items()} == {"trial 0": "FINISHED", "trial 1": "FAILED"}
    points = history(server.uri, found["trial 0"], "loss")
    assert [step for step, _ in points] == list(range(100))
    assert math.isnan(points[50][1])
    artifacts = MlflowClient(server.uri).list_artifacts(found["trial 0"].info.run_id)
    assert [file.path for file in artifacts] == ["note.txt"]
