"""Claim: trials of one node share one copy of the experts' snapshots, and fetch them from it without copying.

python -m benchmarks.buffers [--mib 64] [--snapshots 4] [--trials 3]

Starts a private Ray, whose registry of trajectories serves one expert. Trials are processes that load its snapshots one
after another, as the trials of a search do, and then tell how many bytes of their own memory that took, without the
object store that they share, and how many seconds of the clock. In the reference each loads the same snapshots by
``torch.load``, as published code does. The first trial, for which the registry reads the disk, is left out.
``--mib 128 --snapshots 8`` is 1 GiB.
"""

import re
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import Row, check_same, main, timed
from engine.cluster import runtime
from engine.cluster.experts.registry import RemoteSource
from engine.experts.store import ExpertStore
from engine.rng import named_generator

MIB, GIB = 2**20, 2**30


@dataclass(frozen=True)
class Size:
    """An expert with as many ``snapshots`` of ``mib`` MiB each, and the trials beside the first one."""

    mib: int = 64
    snapshots: int = 4
    trials: int = 3


SMALLEST = Size(mib=1, snapshots=2, trials=1)


def own_bytes() -> int:
    """Return the bytes of memory that belong to this process alone."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return 1024 * sum(int(found) for found in re.findall(r"Private_(?:Clean|Dirty):\s+(\d+) kB", rollup))


class Trial:
    """A process that loads every snapshot in one of both ways and keeps them."""

    def load(self, way: str, folder: Path, epochs: tuple[int, ...]) -> tuple[float, int, float]:
        """Return the seconds of the clock, the bytes that the process grew by, and the sum over all numbers."""
        source: Any = RemoteSource(folder, {0: epochs}, cache_bytes=8 * GIB)
        torch.zeros(1).sum()
        before = own_bytes()
        if way == "shared":
            spent, self.kept = timed(lambda: [source.load(0, epoch) for epoch in epochs])
        else:
            files = [folder / f"{epoch}.pt" for epoch in epochs]
            spent, self.kept = timed(lambda: [torch.load(file, weights_only=True) for file in files])
        grown = own_bytes() - before
        return spent.clock, grown, sum(float(value.double().sum()) for one in self.kept for value in one.values())


def measure(size: Size) -> Iterator[Row]:
    """Yield the rows of bytes and of seconds."""
    epochs, number = tuple(range(size.snapshots)), size.mib * MIB // 4 // 8
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, generator = ExpertStore(folder), named_generator(0, "snapshots")
        for epoch in epochs:
            params = {f"image.{part}": torch.randn(number, generator=generator) for part in range(8)}
            store.save(0, epoch, params)
            torch.save(params, folder / f"{epoch}.pt")
        import ray  # after the settings of engine.cluster, which it reads then

        try:
            print(f"  {runtime.start(local=True).sentence()}", flush=True)
            found: dict[str, list[tuple[float, int, float]]] = {"shared": [], "own": []}
            actor = ray.remote(num_cpus=0)(Trial)
            for _ in range(size.trials + 1):
                for way, results in found.items():
                    trial = actor.remote()
                    results.append(ray.get(trial.load.remote(way, folder, epochs)))
                    ray.kill(trial)
        finally:
            ray.shutdown()
    buffers = size.mib * MIB * size.snapshots
    first, *shared = found["shared"]
    _, *own = found["own"]
    check_same("sum over all numbers", abs(shared[0][2] / own[0][2] - 1), limit=1e-12)
    print(
        f"  the first trial waits {first[0]:.2f} s for {buffers / MIB:.0f} MiB, which the registry reads and examines"
    )
    grown = {way: statistics.median(one[1] for one in of) / MIB for way, of in (("shared", shared), ("own", own))}
    seconds = {way: statistics.median(one[0] for one in of) for way, of in (("shared", shared), ("own", own))}
    seconds = {way: taken * GIB / buffers for way, taken in seconds.items()}
    yield Row(
        f"buffers: memory of a further trial, of {buffers / MIB:.0f} MiB", "its own copy", f"{grown['shared']:.1f} MiB",
        f"{grown['own']:.1f} MiB", grown["shared"] * MIB / buffers, "<= 0.05", "the libraries of a process count too",
    )  # fmt: skip
    yield Row(
        "buffers: to fetch 1 GiB, of 50 ms", "its own copy", f"{1000 * seconds['shared']:.0f} ms",
        f"{1000 * seconds['own']:.0f} ms", seconds["shared"] / 0.05, "<= 1", "a call to the registry for each snapshot",
    )  # fmt: skip


if __name__ == "__main__":
    main(__doc__, Size, SMALLEST, measure)
