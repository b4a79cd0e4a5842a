"""Run a search on three nodes while workers and nodes are killed at random, and count what is left at the end.

``python -m tests.soak.soak --trials 12``; exits with 1 and one line where something was lost or left over.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import ray
from ray.cluster_utils import Cluster

from engine.cluster.experts.registry import stale_actors, stop_actor
from engine.results.files import read_table
from engine.studies.job import Job
from tests.faults.conftest import Nodes
from tests.runs import recorded
from tests.tiny import tiny_job, words

NODES = 3
STORE_BYTES = 100 * 2**20
PAUSE_S = (15.0, 20.0)
VICTIMS = ("ResourceTrainable", "ExpertTrainer", "TrajectoryRegistry", "_write")
OVERRIDES = (
    "resources.trial.cpu=1",
    "budget.outer_steps=24",
    "baselines.coresets=[random]",
    "data.train_images=200",
    "experts.epochs=6",
)
TASK = Path(__file__).resolve().parents[2] / "tasks" / "distill.py"


@dataclass
class Soak:
    """A cluster, the command that uses it, and what has been killed."""

    nodes: Nodes
    dice: random.Random
    killed: dict[str, int] = field(default_factory=dict)

    def kill_something(self) -> None:
        """Kill a worker, or a whole node and start another one."""
        if self.dice.random() < 0.4:
            self.nodes.kill(self.dice.choice(self.nodes.workers))
            self.nodes.add()
            self._count("node")
            return
        victims = [(name, process) for name in VICTIMS for process in self.nodes.running(name)]
        if victims:
            name, process = self.dice.choice(victims)
            process.kill()
            self._count(name)

    def _count(self, name: str) -> None:
        self.killed[name] = self.killed.get(name, 0) + 1

    def disturb(self, command: subprocess.Popen[bytes]) -> None:
        """Kill something every now and then until the command has ended."""
        while True:
            try:
                command.wait(self.dice.uniform(*PAUSE_S))
                return
            except subprocess.TimeoutExpired:
                self.kill_something()


def start_nodes(folder: str) -> Nodes:
    """Start a head without processors, and nodes with one each."""
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES, "temp_dir": folder}
    head["_system_config"] = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
    nodes = Nodes(Cluster(initialize_head=True, head_node_args=head), cpus=1)
    for _ in range(NODES):
        nodes.add()
    return nodes


def run(job: Job, soak: Soak, trials: int) -> int:
    """Run the command on the cluster, disturbed, and return its exit code."""
    environment = {**os.environ, "RAY_ADDRESS": soak.nodes.cluster.address, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TASK), *words(job.specification.storage, *OVERRIDES), "--samples", str(trials)]
    process = subprocess.Popen(command, env=environment)
    try:
        soak.disturb(process)
    finally:
        process.kill()
    return process.returncode


def lost(job: Job, trials: int) -> list[str]:
    """Return what is missing of the results, and what is there twice."""
    found = []
    if not (job.folder / "table.json").exists():
        return ["there is no table"]
    rows = [row.name for row in read_table(job.folder)]
    if rows != ["tiny", "random", "all pairs"]:
        found.append(f"the table has the rows {rows}")
    studies, runs = recorded(job)
    if [run.status for run in studies] != ["FINISHED"]:
        found.append(f"runs of the study: {[run.status for run in studies]}")
    names = {run.name for run in runs}
    if len(runs) != trials or len(names) != trials:
        found.append(f"{len(runs)} runs of {len(names)} trials in MLflow, expected {trials}")
    unfinished = [f"{run.name} {run.status} ({run.tags.get('failure')})" for run in runs if run.status != "FINISHED"]
    return [*found, *unfinished]


def left_over(nodes: Nodes) -> list[str]:
    """Return what still runs after the command, once the detached registry is stopped."""
    ray.init(address=nodes.cluster.address, log_to_driver=False, logging_level="ERROR")
    for name in stale_actors():
        stop_actor(name)
    deadline = time.monotonic() + 30
    while (alive := [name for name in VICTIMS if nodes.running(name)] + [*stale_actors()]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.5)
    ray.shutdown()
    return [f"{name} still runs" for name in alive]


def shared_memory() -> int:
    """Return the bytes of /dev/shm in use, by anybody."""
    usage = os.statvfs("/dev/shm")
    return (usage.f_blocks - usage.f_bfree) * usage.f_frsize


def grown(before: int) -> list[str]:
    """Return by how much /dev/shm has grown, where that is more than half of one node's object store."""
    deadline = time.monotonic() + 20
    while (more := shared_memory() - before) > STORE_BYTES / 2 and time.monotonic() < deadline:
        time.sleep(0.5)
    return [f"/dev/shm has grown by {more / 2**20:.0f} MiB"] if more > STORE_BYTES / 2 else []


def main(trials: int, seed: int) -> int:
    """Run the whole soak, print its counts, and return the exit code."""
    started, before = time.monotonic(), shared_memory()
    storage, folder = Path(tempfile.mkdtemp(prefix="vldd-soak.")), tempfile.mkdtemp(prefix="vldd-", dir="/tmp")
    soak = Soak(start_nodes(folder), random.Random(seed))
    job = tiny_job(storage, *OVERRIDES, samples=trials)
    try:
        code = run(job, soak, trials)
        wrong = [f"the command ended with {code}"] if code else lost(job, trials)
        wrong += left_over(soak.nodes)
    finally:
        soak.nodes.cluster.shutdown()
    wrong += grown(before)
    counts = ", ".join(f"{count} x {name}" for name, count in sorted(soak.killed.items())) or "nothing"
    print(f"soak: {trials} trials on {NODES} nodes in {time.monotonic() - started:.0f} s; killed: {counts}")
    print(f"soak: {'; '.join(wrong) or 'all results, one run each, nothing left over'}")
    for path in (folder, *([] if wrong else [storage])):
        shutil.rmtree(path, ignore_errors=True)
    mine = [process for process in psutil.Process().children(recursive=True) if process.status() != "zombie"]
    print(f"soak: {len(mine)} processes left")
    return 1 if wrong or not soak.killed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.exit(main(given.trials, given.seed))
