"""A cluster of three nodes in this process's care, a study that nothing disturbs, and somebody who disturbs others."""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.results.row import Row
from engine.studies.distill import distill
from engine.studies.job import Job
from tests.tiny import tiny_job

LONGER = (
    "budget.samples=1",  # without a search nothing depends on which trial ends first
    "budget.outer_steps=16",
    "data.train_images=400",
    "experts.epochs=6",
    "baselines.coresets=[random]",
)
"""The tiny study, long enough that there is something to interrupt."""


def longer_job(storage: Path, *overrides: str) -> Job:
    """Return the job of the study that these tests disturb; ``overrides`` go before its own."""
    given = {override.partition("=")[0] for override in overrides}
    return tiny_job(storage, *(own for own in LONGER if own.partition("=")[0] not in given), *overrides)


@dataclass
class Nodes:
    """Nodes of a cluster that were started here; the head takes no work."""

    cluster: Any
    cpus: int = 2
    workers: list[Any] = field(default_factory=list)

    def add(self) -> None:
        """Start one more node."""
        self.workers.append(self.cluster.add_node(num_cpus=self.cpus, object_store_memory=100 * 2**20))
        self.cluster.wait_for_nodes()

    def raylet(self, node: Any) -> psutil.Process:
        """Return the process that runs the workers of a node."""
        return psutil.Process(node.all_processes["raylet"][0].process.pid)

    def running(self, name: str) -> list[psutil.Process]:
        """Return the workers of this cluster whose titles begin with ``ray::<name>``; others' are never looked at."""
        found = []
        for node in [self.cluster.head_node, *self.workers]:
            for process in self.raylet(node).children(recursive=True):
                try:
                    if " ".join(process.cmdline()).startswith(f"ray::{name}"):
                        found.append(process)
                except psutil.Error:
                    continue
        return found

    def kill_node_of(self, name: str) -> None:
        """Kill the node whose worker is called ``name``, as if its plug were pulled."""
        [node] = [n for n in self.workers if {p.pid for p in self.running(name)} & children(self.raylet(n))]
        self.kill(node)

    def kill(self, node: Any) -> None:
        """Kill a node."""
        self.workers.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)

    def complete(self) -> None:
        """Start nodes until there are two; only the main thread can."""
        while len(self.workers) < 2:
            self.add()


def children(process: psutil.Process) -> set[int]:
    """Return the ids of all processes below one."""
    return {child.pid for child in process.children(recursive=True)}


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    """Start a head without processors and two nodes with two each, and join it."""
    import ray
    from ray.cluster_utils import Cluster

    if ray.is_initialized():
        ray.shutdown()
    folder = tempfile.mkdtemp(prefix="vldd-", dir="/tmp")
    head: dict[str, Any] = {
        "num_cpus": 0,
        "include_dashboard": False,
        "object_store_memory": 100 * 2**20,
        "temp_dir": folder,
    }
    head["_system_config"] = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
    started = Nodes(Cluster(initialize_head=True, head_node_args=head))
    started.complete()
    ray.init(address=started.cluster.address, log_to_driver=False, logging_level="ERROR")
    yield started
    ray.shutdown()
    started.cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Undisturbed:
    """A study that ran as it should: what every disturbed one is compared with."""

    job: Job
    rows: list[Row]


@pytest.fixture(scope="session")
def undisturbed(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Return the longer study after a run that nothing disturbed."""
    job = longer_job(tmp_path_factory.mktemp("undisturbed"))
    return Undisturbed(job, distill(job))


@dataclass
class Saboteur:
    """Waits in a thread for a moment, and then does something, once."""

    moment: Callable[[], bool]
    deed: Callable[[], None]
    failure: BaseException | None = None
    done: bool = False

    def __enter__(self) -> "Saboteur":
        """Begin to wait."""
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.ended = threading.Event()
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Assert that the deed was done, unless something else went wrong."""
        self.ended.set()
        self.thread.join(60)
        if error[0] is None:
            if self.failure is not None:
                raise self.failure
            assert self.done, "the moment never came"

    def _run(self) -> None:
        try:
            while not self.moment():
                if self.ended.wait(0.01):
                    return
            self.deed()
            self.done = True
        except BaseException as error:
            self.failure = error


def gone(process: psutil.Process) -> bool:
    """Kill a process and return whether it has ended."""
    process.kill()
    deadline = time.monotonic() + 10
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return True
