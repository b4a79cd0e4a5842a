"""Two machines for all tests of this folder, which leave no Ray running on them."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

import pytest
import yaml

from tests.end_to_end import machines
from tests.end_to_end.machines import Machine

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text(encoding="utf-8"))
CLUSTER = f"vldistill-test-{os.getpid()}"


@dataclass(frozen=True)
class World:
    """Two machines, the cluster file that names them, and a folder that both share with the one that gives orders."""

    head: Machine
    worker: Machine
    key: Path
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
        return run(self.head.within("--net", "ray", *words), environment)

    def on_head(self, *words: str, variables: Mapping[str, str]) -> str:
        """Run a command on the head with these variables, HOME and PATH besides, and return its output."""
        inside = self.head.within("--net", "--pid", "--mount", *words)
        told = {"HOME": str(self.head.home), "PATH": machines.SEARCHED, **machines.VARIABLES, **variables}
        return run(inside, told)


def run(words: list[str], variables: Mapping[str, str]) -> str:
    """Run a command in the project's folder with these variables alone; show and return its output."""
    print(f"\n$ {' '.join(words)}", flush=True)
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        try:
            given = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": subprocess.STDOUT}
            done = subprocess.run(words, cwd=ROOT, env=dict(variables), timeout=200, **given)
        finally:
            said.seek(0)
            output = said.read()
            print(f"{output}# {time.perf_counter() - started:.1f} s", flush=True)
    assert done.returncode == 0, output
    return output


@pytest.fixture(scope="session")
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
        yield World(*started, key, file, folder)
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
