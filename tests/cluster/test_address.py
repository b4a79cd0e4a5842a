"""A cluster is asked before it is joined, and a private one starts where its folder is of no use."""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import ray

from engine.cluster import address, runtime
from engine.cluster.address import running_cluster


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return Ray's folder of temporary files."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray"


@pytest.fixture
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the address of a server that says something else than a cluster, or nothing, or is not there."""
    monkeypatch.setattr(address, "PATIENCE_S", 0.5)
    with socket.create_server(("0.0.0.0", 0)) as listener:
        place = f"{ray.util.get_node_ip_address()}:{listener.getsockname()[1]}"
        if request.param == "gone":
            listener.close()
        elif request.param == "web":
            threading.Thread(target=_answer, args=(listener,), daemon=True).start()
        yield place


def _answer(listener: socket.socket) -> None:
    with suppress(OSError):  # closed
        while True:
            with listener.accept()[0] as connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize("place", ["gone", "silent", "web"], indirect=True)
def test_an_address_that_does_not_answer(
    place: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    (folder / "ray_current_cluster").write_text(f"{place}\n")
    assert running_cluster() is None
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"Ray: the cluster of {folder}/ray_current_cluster is not joined (")
    for given in (place, f"ray://{place}"):
        monkeypatch.setenv("RAY_ADDRESS", given)
        with pytest.raises(ConnectionError, match=rf"^RAY_ADDRESS: no cluster answers at '{given}' \(.*; unset it or"):
            running_cluster()
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("given", ["http://127.0.0.1:8265", "somewhere", "host:port", "10.0.0.1:99999", ":1"])
def test_what_is_no_address(given: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", given)
    with pytest.raises(ValueError, match=rf"^RAY_ADDRESS is '{given}', expected host:port as in 10\.0\.0\.1:6379\.$"):
        running_cluster()


def test_a_file_that_is_no_address_is_told_and_none_is_silent(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert running_cluster() is None
    assert capsys.readouterr().out == ""
    (folder / "ray_current_cluster").write_bytes(b"\xff\xfe")
    assert running_cluster() is None
    assert "ray_current_cluster is not joined (" in capsys.readouterr().out


@pytest.mark.usefixtures("ray_local")
def test_a_cluster_that_runs_answers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = ray.get_runtime_context().gcs_address
    (folder / "ray_current_cluster").write_text(here)
    assert running_cluster() == here
    monkeypatch.setenv("RAY_ADDRESS", here)
    assert running_cluster() == here


@pytest.mark.parametrize("name", ["é", "l" * 60, "file/inside"])
def test_a_folder_in_which_ray_cannot_work_is_refused_or_replaced(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / name))
    with pytest.raises(ValueError, match=r"^RAY_TMPDIR is '.*', expected "):
        runtime._private_folder()
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / name))
    folder = runtime._private_folder()
    assert len(str(folder)) < 20
    runtime.atexit.unregister(runtime._end)
    folder.rmdir()


STARTED = """
import pathlib, ray
from engine.cluster import runtime
runtime.start(local=True)
print(ray._private.worker._global_node.get_session_dir_path())
"""


def test_a_private_cluster_starts_without_a_home_and_with_a_long_temporary_folder(tmp_path: Path) -> None:
    long = tmp_path / secrets.token_hex(34)
    long.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"HOME": "/proc/none", "TMPDIR": str(long)}
    done = subprocess.run(
        [sys.executable, "-c", STARTED], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    session = Path(done.stdout.split()[-1])
    assert session.parent.name.startswith("vldd-")
    assert not session.parent.exists()
