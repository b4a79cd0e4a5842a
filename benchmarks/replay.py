"""Claim: on a GPU an outer step of heads is launched as one graph, which is faster than its kernels one by one.

python -m benchmarks.replay [--model nfnet_l0] [--px 224] [--pairs 100] [--steps 8] [--dim 2304] [--repeat 5]

Takes outer steps of bi-trajectory matching with the exact gradient under trained heads, as ``benchmarks.gpu`` does: of
two runs from the same state, one replays what it has recorded and one launches every kernel. Both must end with equal
bits. Launches are the calls that give the GPU work: kernels, graphs, copies and fills. The engine itself records none
until this was measured, and on a CPU nothing is recorded.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from benchmarks import gpu
from benchmarks.common import Row, check_same, interleave, main, synchronise
from benchmarks.cuda import DEVICE, precision
from engine.unroll import replay

LAUNCHING = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync")
BEFORE = 3
"""Steps before any is timed, of which the second one is recorded."""


@dataclass(frozen=True)
class Size:
    """The encoder and the numbers of a step; steps of both runs are timed ``repeat`` times."""

    model: str = "nfnet_l0"
    px: int = 224
    pairs: int = 100
    steps: int = 8
    dim: int = 2304
    repeat: int = 5


SMALLEST = Size(model="test_nfnet", px=32, pairs=4, steps=2, dim=64, repeat=1)


@contextmanager
def recording(*types: str) -> Iterator[None]:
    """Record graphs on these types of devices alone."""
    usual, replay.GPUS = replay.GPUS, types
    try:
        yield
    finally:
        replay.GPUS = usual


def launches(call: Callable[[], Any]) -> int:
    """Return how often a call gives the GPU work."""
    if DEVICE.type != "cuda":
        return 0
    with torch.profiler.profile(activities=list(torch.profiler.supported_activities())) as profile:
        call()
        synchronise()
    return sum(event.count for event in profile.key_averages() if event.key.startswith(LAUNCHING))


def measure(size: Size) -> Iterator[Row]:
    """Yield the rows of seconds and of launches."""
    given = gpu.Size(model=size.model, px=size.px, pairs=size.pairs, steps=size.steps, dim=size.dim)
    setup = given.setup("heads")
    with precision("FP32"):
        runs = {name: given.run("heads", setup=setup) for name in ("one graph", "launched")}

        def step(name: str, number: int) -> None:
            with recording(*["cuda"] * (name == "one graph")):
                runs[name].run(number)

        for name in runs:
            step(name, BEFORE)
        seconds = interleave({name: partial(step, name, 1) for name in runs}, size.repeat)[0]
        found, wanted = (runs[name].state.state_dict() for name in runs)
        unequal = sum(not torch.equal(value, wanted[name]) for name, value in found.items())
        check_same("tensors of other bits after the steps of both", unequal, limit=0)
        counted = {name: launches(partial(step, name, 1)) for name in runs}
    ours, theirs = (seconds[name].clock for name in runs)
    why = "a GPU alone" if DEVICE.type != "cuda" else "the encoder, the optimiser and copies are launched one by one"
    yield Row(
        "GPU: an outer step, heads", "its kernels launched", f"{ours:.3g} s", f"{theirs:.3g} s", theirs / ours, "", why,
    )  # fmt: skip
    yield Row(
        "GPU: launches of an outer step, heads", "its kernels launched", f"{counted['one graph']:,}",
        f"{counted['launched']:,}", counted["one graph"], "<= 1500" if counted["one graph"] else "", why,
    )  # fmt: skip


if __name__ == "__main__":
    main(__doc__, Size, SMALLEST, measure)
