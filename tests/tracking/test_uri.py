"""Where MLflow is: databases that moved or are of another version, servers that say nothing, and lines for a shell."""

import shlex
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from mlflow import MlflowClient

from engine.tracking.mlflow.delivery import prepare
from engine.tracking.mlflow.spool import Sender, Spool
from engine.tracking.mlflow.tracker import MlflowTracker, RunIdentity
from engine.tracking.mlflow.uri import KIND, PORT, check_uri, command, database_file, default_uri, page, shown

ODD = "50% of q?mark #1 it's é/runs"


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def storage(tmp_path: Path, schema: Path) -> Path:
    """Return a storage folder with a database."""
    (tmp_path / "storage").mkdir()
    shutil.copy(schema, tmp_path / "storage" / "mlflow.db")
    return tmp_path / "storage"


def opened(storage: Path, uri: str = "") -> MlflowTracker:
    """Open the same study in a storage folder."""
    paths = {"artifacts": storage / "artifacts", "spool": storage / "spool"}
    return MlflowTracker.open_study(uri or default_uri(storage), RunIdentity("e", "a study", "k"), **paths)


def test_the_default_is_a_database_in_the_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.org")
    assert default_uri(tmp_path) == "http://example.org"


def test_a_storage_of_any_name_holds_its_database_and_artifacts(tmp_path: Path, schema: Path) -> None:
    storage = tmp_path / ODD
    storage.mkdir(parents=True)
    shutil.copy(schema, storage / "mlflow.db")
    assert database_file(default_uri(storage)) == storage / "mlflow.db"
    study = opened(storage)
    study.artifact(schema)
    study.finish("FINISHED")
    assert [file.name for file in (storage / "artifacts").rglob("*.db")] == ["mlflow.db"]
    assert [path.name for path in tmp_path.iterdir()] == [Path(ODD).parts[0]]
    assert shlex.split(page(default_uri(storage), "e")[0])[-2:] == ["--backend-store-uri", default_uri(storage)]


def test_a_line_for_a_shell_works_as_it_is_printed(storage: Path, tmp_path: Path) -> None:
    moved = tmp_path / ODD
    shutil.copytree(storage, moved)
    with closing(sqlite3.connect(moved / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '1b5f0d9ad7c1'")  # one before the newest or older
    with pytest.raises(ValueError, match=r"is a database of an older MLflow than the [\d.]+ here; make a copy") as told:
        prepare(default_uri(moved), experiment="e", artifacts=moved / "artifacts")
    line = str(told.value).partition(" and type ")[2].removesuffix(".")
    assert shlex.split(line)[1:] == ["db", "upgrade", default_uri(moved)]
    found = subprocess.run(f"PATH=/usr/bin:/bin {line} --help", shell=True, capture_output=True, text=True, timeout=60)
    assert "Upgrade the schema" in found.stdout, found.stderr


def test_a_free_port_and_the_page_of_the_runs_are_printed(storage: Path) -> None:
    uri = default_uri(storage)
    number = prepare(uri, experiment="e", artifacts=storage / "artifacts")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # where another process has it, it is not free either
            other.bind(("127.0.0.1", PORT))
            other.listen()
        line, address = page(uri, "e")
    words = shlex.split(line)
    port = int(words[words.index("--port") + 1])
    assert port > PORT
    assert words[-2:] == ["--backend-store-uri", uri]
    assert address == f"http://127.0.0.1:{port}/#/experiments/{number}/runs?workflowType=machine_learning"
    assert page(default_uri(storage / "absent"), "e") == []


def test_an_experiment_opens_as_training_of_models(storage: Path) -> None:
    client = MlflowClient(default_uri(storage))
    client.create_experiment("older", artifact_location=(storage / "artifacts").as_uri())
    (storage / "artifacts").mkdir()
    for name in ("older", "newer"):
        number = prepare(default_uri(storage), experiment=name, artifacts=storage / "artifacts")
        assert client.get_experiment(number).tags.items() >= KIND.items()
    client.set_experiment_tag(number, *next((tag, "genai_development") for tag in KIND))
    prepare(default_uri(storage), experiment="newer", artifacts=storage / "artifacts")
    assert "genai_development" in client.get_experiment(number).tags.values()  # what a person chose stays


def test_a_password_is_not_printed() -> None:
    uri = "postgresql://somebody:secret@host/runs"
    assert shown(uri) == "postgresql://somebody:***@host/runs"
    assert shown("https://me:secret@host:5000/ml") == "https://me:***@host:5000/ml"
    assert shown("http://host:5000/") == "http://host:5000/"
    assert command("server", "--backend-store-uri", uri).endswith(' server --backend-store-uri "$MLFLOW_TRACKING_URI"')


def test_the_errors_of_a_server_do_not_hold_its_password(tmp_path: Path) -> None:
    def hang_up(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                listener.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=hang_up, args=(listener,), daemon=True).start()
        uri = f"http://me:secret@127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=r"at http://me:\*\*\*@127") as told:
            prepare(uri, experiment="e", artifacts=tmp_path, patience=1.0)
        assert page(uri, "e")[-1].startswith("http://me:***@127")
    assert "secret" not in str(told.value)
    sender = Sender(Spool(tmp_path / "spool"), lambda _: None)
    sender.stop()
    with pytest.raises(ConnectionError, match=r"MLflow at http://me:\*\*\*@127.* did not take everything"):
        MlflowTracker(sender, uri=uri, run_id="r", channel="r", patience=0.0).finish("FINISHED")


@pytest.mark.parametrize("copied", [False, True])
def test_a_storage_that_was_moved_or_copied_goes_on(storage: Path, tmp_path: Path, copied: bool) -> None:
    first, moved = opened(storage), tmp_path / "elsewhere" / "moved"
    first.finish("KILLED")
    kept = storage / "artifacts" / first.run_id / "artifacts"
    kept.mkdir(parents=True)
    shutil.copy(storage / "mlflow.db", kept)  # not by MLflow, which would remember the folder in this process
    before = sorted(storage.rglob("artifacts/*"))
    shutil.copytree(storage, moved)
    if not copied:
        shutil.rmtree(storage)
    (tmp_path / "note.txt").write_text("kept")
    again = opened(moved)
    again.artifact(tmp_path / "note.txt")
    again.finish("FINISHED")
    assert again.run_id == first.run_id
    client = MlflowClient(default_uri(moved))
    assert {file.path for file in client.list_artifacts(first.run_id)} == {"mlflow.db", "note.txt"}
    assert len(list(moved.rglob("artifacts/**/note.txt"))) == 1
    assert sorted(storage.rglob("artifacts/*")) == (before if copied else [])


def test_records_that_wait_move_along(storage: Path, tmp_path: Path) -> None:
    study = opened(storage)
    study._sender.stop()
    study.metrics({"loss": 1.0}, 0)
    moved = storage.rename(tmp_path / "moved")
    again = opened(moved)
    again.finish("FINISHED")
    assert MlflowClient(default_uri(moved)).get_run(study.run_id).data.metrics == {"loss": 1.0}


def test_an_experiment_whose_folder_is_gone_says_what_to_type(storage: Path, tmp_path: Path) -> None:
    shared = default_uri(storage)
    prepare(shared, experiment="e", artifacts=tmp_path / "one" / "artifacts")
    prepare(shared, experiment="e", artifacts=tmp_path / "other" / "artifacts")  # both storages may use it
    shutil.rmtree(tmp_path / "one")
    with pytest.raises(
        ValueError, match=r"keeps the files of 'e' in '.*/one/artifacts', expected that folder here"
    ) as told:
        prepare(shared, experiment="e", artifacts=tmp_path / "other" / "artifacts")
    assert f"type ln -s {tmp_path}/other/artifacts {tmp_path}/one/artifacts if it was moved" in str(told.value)
    assert not (tmp_path / "one").exists()


def test_a_database_of_a_newer_version(storage: Path) -> None:
    with closing(sqlite3.connect(storage / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(ValueError, match=r"is a database of a newer MLflow than the [\d.]+ here; install that one"):
        prepare(default_uri(storage), experiment="e", artifacts=storage / "artifacts")


def test_a_file_that_is_no_database(storage: Path) -> None:
    (storage / "mlflow.db").write_text("something else" * 1000)
    with pytest.raises(ValueError, match=r"MLflow refuses to work with 'sqlite:///.*file is not a database"):
        prepare(default_uri(storage), experiment="e", artifacts=storage / "artifacts")


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("postgresql+pg8000://me:secret@host", r"'postgresql\+pg8000://me:\*\*\*@host', whose driver pg8000 is"),
        ("mysql+pymysql://host/runs", "'mysql\\+pymysql://host/runs', whose driver pymysql is not installed here"),
        ("postgresql+nothing://host/runs", "with which MLflow cannot work .*nothing"),
        ("elsewhere://host", "'elsewhere://host', with which MLflow cannot work"),
        ("file:/nowhere", "'file:/nowhere', with which MLflow cannot work"),
    ],
)
def test_a_uri_that_cannot_work_is_refused_at_once(uri: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"^MLFLOW_TRACKING_URI is {told}" if told[0] == "'" else told):
        check_uri(uri)


@pytest.mark.parametrize("kind", ["silent", "closed"])
def test_a_server_that_does_not_answer(kind: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if kind == "closed":
            listener.close()
        uri = f"http://127.0.0.1:{port}"
        started = time.monotonic()
        with pytest.raises(ConnectionError, match=rf"^No MLflow answered at {uri} within 1 s \(.*; repeat the command"):
            prepare(uri, experiment="e", artifacts=tmp_path, patience=1.0)
        assert time.monotonic() - started < 5
