"""Detached actors: they end by themselves when nobody needs them, and a command lists and ends the others."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray

from engine.cluster.experts.registry import get_registry, registry_name, stale_actors
from tasks import actors, cli

pytestmark = pytest.mark.usefixtures("ray_local")


def wait_until_gone(folder: Path) -> None:
    """Wait until the registry of a store has ended."""
    deadline = time.monotonic() + 20
    while registry_name(folder) in stale_actors():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_registry_that_nobody_asks_ends_by_itself(tmp_path: Path) -> None:
    registry = get_registry(tmp_path, idle_s=2.0)
    for _ in range(3):
        time.sleep(1)
        assert ray.get(registry.index.remote()) == {}  # whoever asks keeps it
    assert registry_name(tmp_path) in stale_actors()
    wait_until_gone(tmp_path)


def test_the_command_lists_and_stops_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ray.get(get_registry(tmp_path).index.remote())
    assert cli.run(actors.main, [], parser=actors.PARSER) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if str(tmp_path) in line]
    assert line.startswith(f"{registry_name(tmp_path)}  idle for 0 s, process ")
    assert cli.run(actors.main, ["--stop"], parser=actors.PARSER) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("actors stopped.")
    wait_until_gone(tmp_path)
    assert ray.get(get_registry(tmp_path).index.remote()) == {}  # whoever needs it starts it again


def test_without_a_cluster_there_is_nothing_to_list(tmp_path: Path) -> None:
    environment = {**os.environ, "RAY_TMPDIR": str(tmp_path), "RAY_ADDRESS": ""}
    words = [sys.executable, actors.__file__]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "No cluster runs here; a private one ends with its command.\n"
