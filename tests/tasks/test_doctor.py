"""The examination of a machine: what it can do, and what would go wrong."""

import os
import socket
from pathlib import Path

import pytest
import timm

from engine.models import packages
from tasks import cli, doctor


def said(capsys: pytest.CaptureFixture[str], storage: Path) -> tuple[int, dict[str, str], list[str]]:
    """Return the exit code, the line of each subject, and the sentences about what would go wrong."""
    code = cli.run(doctor.main, ["--storage", str(storage)], parser=doctor.PARSER)
    lines = capsys.readouterr().out.splitlines()
    found = dict(line.split(maxsplit=1) for line in lines if not line.startswith("- "))
    return code, found, [line.removeprefix("- ") for line in lines if line.startswith("- ")]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Forget servers that the variables of this process name, and look for Ray where none was started."""
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "ray"))
    monkeypatch.setenv("VLDD_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("VLDD_WEIGHTS", str(tmp_path / "weights"))


@pytest.fixture
def closed() -> int:
    """Return a port of this machine where nobody listens."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        port: int = own.getsockname()[1]
        return port


def test_a_line_a_subject(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "data" / "flickr8k").mkdir(parents=True)
    _, found, wrong = said(capsys, tmp_path / "runs")
    subjects = ["versions", "processors", "GPUs", "memory", "storage", "data", "weights", "hub", "Ray", "MLflow"]
    assert list(found) == subjects
    assert f"timm {timm.__version__}" in found["versions"]
    assert found["processors"].startswith(f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} ")
    assert found["data"] == f"{tmp_path / 'data'}: flickr8k"
    assert found["weights"].startswith(f"{tmp_path / 'weights'}: nothing there; packages: ")
    assert found["Ray"] == "a private one would be started"
    assert found["MLflow"] == f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}"
    assert not [sentence for sentence in wrong if "are free, expected" not in sentence]


def test_commands_that_run_another_copy_of_the_engine_than_the_one_here(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    code, _, wrong = said(capsys, tmp_path / "runs")
    assert code == 1
    assert [one for one in wrong if one.startswith("engine: commands run ") and "--editable . makes them one" in one]


def test_servers_that_do_not_answer(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: int
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed}")
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed}")
    code, _, wrong = said(capsys, tmp_path / "runs")
    assert code == 1
    assert f"MLFLOW_TRACKING_URI is 'http://127.0.0.1:{closed}', where no server takes a connection." in wrong
    assert [one for one in wrong if one.startswith(f"RAY_ADDRESS: no cluster answers at '127.0.0.1:{closed}'")]


def test_a_storage_that_cannot_be_written_to(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    code, _, wrong = said(capsys, tmp_path / "file")
    assert code == 1
    assert [sentence for sentence in wrong if sentence.startswith(f"storage is {str(tmp_path / 'file')!r}")]


def test_a_package_of_weights_of_another_version(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(packages.PACKAGES, "other", packages.Package("timm", "0.0", "timm/version.py"))
    code, _, wrong = said(capsys, tmp_path / "runs")
    assert code == 1
    assert [one for one in wrong if f"from the package timm 0.0, found version {timm.__version__}" in one]
