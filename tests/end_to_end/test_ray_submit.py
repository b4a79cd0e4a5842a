"""The cluster file as it is shipped: two machines come up, run studies that are sent to them, and are stopped."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

import pytest
import yaml

from engine.cluster.trial import BEST_SET
from tests.cluster.runs import recorded
from tests.cluster.studies import tiny_job
from tests.end_to_end import machines
from tests.end_to_end.machines import Machine

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text(encoding="utf-8"))
CLUSTER = f"vldistill-test-{os.getpid()}"

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class World:
    """Two machines, the cluster file that names them, and a folder that both share with the one that gives orders."""

    head: Machine
    worker: Machine
    file: Path
    shared: Path

    def ray(self, *words: str) -> str:
        """Type a command of Ray in the project's folder, on a machine that is neither of the two; return its output."""
        environment = {
            "HOME": str(self.shared),
            "PATH": f"{Path(sys.executable).parent}:{machines.SEARCHED}",
            "RAY_TMPDIR": str(self.shared),
            "TMPDIR": str(self.shared),
        }
        started = time.perf_counter()
        typed = subprocess.run(
            self.head.within("--net", "ray", *words),
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=200,
        )
        print(f"\n$ ray {' '.join(words)}  # {time.perf_counter() - started:.1f} s\n{typed.stdout}")
        assert typed.returncode == 0, typed.stdout
        return typed.stdout


@pytest.fixture
def world() -> Iterator[World]:
    """Start two machines that may use this environment's packages, and end them with all they run."""
    if reason := machines.missing():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="vldd-", dir="/tmp"))  # a socket's path may have 107 characters
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    started: list[Machine] = []
    try:
        for name, address in (("h", SHIPPED["provider"]["head_ip"]), ("w", SHIPPED["provider"]["worker_ips"][0])):
            started.append(machines.start(address, folder / name, key=key))
        machines.connect(*started)
        file = folder / "cluster.yaml"
        file.write_text(yaml.safe_dump(edited(key)), encoding="utf-8")
        yield World(*started, file, folder)
    finally:
        for machine in started:
            machine.stop()
        shutil.rmtree(folder)
        shutil.rmtree(connections(), ignore_errors=True)
        with suppress(OSError):  # other clusters' connections
            connections().parent.rmdir()


def edited(key: Path) -> dict[str, object]:
    """Return the shipped cluster file after what its reader has to edit; the addresses are the shipped ones."""
    return SHIPPED | {"cluster_name": CLUSTER, "auth": {"ssh_user": "root", "ssh_private_key": str(key)}}


def connections() -> Path:
    """Return the folder of the connections that Ray keeps open; no variable moves it."""
    user, cluster = (hashlib.sha256(word.encode()).hexdigest()[:10] for word in (getuser(), CLUSTER))
    return Path(f"/tmp/ray_ssh_{user}/{cluster}")


def test_a_study_runs_on_machines_reached_by_ssh(world: World) -> None:
    world.ray("up", "-y", str(world.file))
    await_that(lambda: runs_ray(world.worker))  # the head starts the workers once it is up itself
    space = "vldistill/tests/cluster/tiny.yaml"
    words = [f"storage={world.shared}/runs", "baselines.coresets=[random]", "budget.samples=1"]

    said = world.ray("submit", str(world.file), "tasks/distill.py", space, *words)

    assert "Ray: the running cluster (" in said
    assert "bi_trajectory" in said
    job = tiny_job(world.shared / "runs", *words[1:])
    (study,), trials = recorded(job)
    assert {run.status for run in (study, *trials)} == {"FINISHED"}
    assert len(trials) == 1
    assert study.metrics["test/mean_recall"] > 0
    assert {BEST_SET, "table.json"} <= study.artifacts

    submitted = ["--address=http://127.0.0.1:8265", "--working-dir=.", "--", "python", "tasks/distill.py"]
    said = world.ray("job", "submit", *submitted, "tests/cluster/tiny.yaml", *words, "method.num_pairs=6")
    assert "succeeded" in said

    world.ray("down", "-y", str(world.file))
    assert not runs_ray(world.head)
    await_that(lambda: not runs_ray(world.worker))  # it ends because its head is gone


def runs_ray(machine: Machine) -> bool:
    """Tell whether a machine runs a node of a cluster."""
    return any("/raylet " in line for line in machine.command_lines())


def await_that(condition: Callable[[], bool], *, seconds: float = 120) -> None:
    """Wait until ``condition`` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(1)
