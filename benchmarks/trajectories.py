"""Claim: the store of experts keeps and loads less of a trajectory than the published buffer, which holds all of it.

python -m benchmarks.trajectories [--millions 10] [--tensors 200] [--epochs 10] [--repeat 5]

The published buffer (arXiv 2308.07545) is one file of lists of tensors, a snapshot of every epoch, the start included,
read whole by ``torch.load``. Ours is the snapshots that the method can draw a segment from (``span`` 1, ``max_start``
2: three), one safetensors file each, whose checksums and numbers are examined at every load. Both files are in the page
cache. Each is loaded in a fresh process for the peak of memory, then both in turn for the seconds.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks.common import Row, check_same, difference, in_fresh_process, interleave, main, peak
from engine.experts.store import ExpertStore
from engine.methods.bi_trajectory import Method
from engine.rng import named_generator
from engine.tensors import Params

MIB = 2**20


@dataclass(frozen=True)
class Size:
    """An expert of so many millions of parameters in so many tensors, trained for ``epochs``."""

    millions: float = 10.0
    tensors: int = 200
    epochs: int = 10
    repeat: int = 5


SMALLEST = Size(millions=0.1, tensors=10, repeat=1)
EPOCHS = Method(num_pairs=100).epochs()


def write(folder: Path, size: Size) -> None:
    """Write one expert both ways; every epoch adds noise to its parameters."""
    store, trajectory, generator = ExpertStore(folder / "store"), [], named_generator(0, "expert")
    shape = (int(size.millions * 1e6 / size.tensors / 64), 64)
    params: Params = {f"image.{number:04d}": torch.zeros(shape) for number in range(size.tensors)}
    for epoch in range(size.epochs + 1):
        params = {name: value + torch.randn(shape, generator=generator) for name, value in params.items()}
        trajectory.append(list(params.values()))
        if epoch in EPOCHS:
            store.save(0, epoch, params)
    torch.save([trajectory], folder / "replay_buffer_0.pt")


def ours(folder: Path) -> list[Params]:
    """Load the snapshots that segments are drawn from."""
    return [ExpertStore(folder / "store").load(0, epoch) for epoch in EPOCHS]


def published(folder: Path) -> list[Params]:
    """Load the buffer, and return its snapshots of the same epochs with names."""
    (trajectory,) = torch.load(folder / "replay_buffer_0.pt", weights_only=True)
    return [{f"image.{number:04d}": value for number, value in enumerate(values)} for values in trajectory]


def needed(way: str, folder: Path) -> float:
    """Return the bytes that a process needs at its peak to load an expert in one way."""
    return peak(partial({"ours": ours, "published": published}[way], folder))[1]


def measure(size: Size) -> Iterator[Row]:
    """Yield the rows of bytes on the disk, of memory and of seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, size)
        spent, found = interleave({"ours": partial(ours, folder), "published": partial(published, folder)}, size.repeat)
        for epoch, mine, theirs in zip(EPOCHS, found["ours"], found["published"], strict=False):
            check_same(f"snapshot of epoch {epoch}", difference(mine, theirs), limit=0)
        stored = float(sum(file.stat().st_size for file in (folder / "store").rglob("*") if file.is_file()))
        disk = {"ours": stored, "published": float((folder / "replay_buffer_0.pt").stat().st_size)}
        memory = {way: in_fresh_process(needed, way, folder) for way in disk}
    number = size.epochs + 1
    for what, found_bytes in (("bytes on the disk", disk), ("peak memory of a load", memory)):
        one, other = found_bytes["ours"], found_bytes["published"]
        yield Row(
            f"trajectories: an expert's {what}", f"{number} snapshots by torch.load", f"{one / MIB:.0f} MiB",
            f"{other / MIB:.0f} MiB", one / other, "<= 0.28", "a snapshot is in memory twice while it is examined",
        )  # fmt: skip
    yield Row(
        "trajectories: to load an expert", f"{number} snapshots by torch.load", str(spent["ours"]),
        str(spent["published"]), spent["published"].processor / spent["ours"].processor, ">= 3",
        "the SHA-256 of every snapshot is more than half of a load",
    )  # fmt: skip


if __name__ == "__main__":
    main(__doc__, Size, SMALLEST, measure)
