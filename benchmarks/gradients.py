"""Claim: the exact gradient has the memory of the truncated one and the value of the stored one, at about its speed.

python -m benchmarks.gradients [--steps 2 8] [--pairs 50] [--px 64] [--repeat 3]

Unrolls one student (MobileNetV1-0.25 with random weights, all parameters matched) in each mode, in a process of its own
to measure its peak memory. Modes alternate, so that other load on the machine affects all of them alike. Prints seconds
of the processor (median), peak memory above the start, and cosine and relative error of the image gradient with that of
``stored``. Goals are those of 8 inner steps, or of the most where 8 are not among them.
"""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.common import Row, Spent, check_same, cosine, difference, in_fresh_process, main, median, peak
from engine.io.paths import Paths
from engine.losses.matching import matching_losses
from engine.models.heads import HeadName, build_head
from engine.models.image import mobilenetv1
from engine.models.two_tower import Train, TwoTower, make_tower
from engine.rng import named_generator
from engine.unroll import GRADIENTS, InnerBatch, Unroll

MODES = ("stored", "exact", "truncated")
TEXT_FEATURES = 384


@dataclass(frozen=True)
class Size:
    """Inner steps, and pairs of each; ``repeat`` processes of each mode."""

    steps: tuple[int, ...] = (2, 8)
    pairs: int = 50
    px: int = 64
    repeat: int = 3


SMALLEST = Size(steps=(2,), pairs=10, px=32, repeat=1)


def student(*, train: Train, head: HeadName, width: int) -> TwoTower:
    """Return a student on MobileNetV1-0.25 with random weights; ``head`` is the image tower's."""
    nowhere = Paths(data=Path(), weights=Path(), cache=Path())
    image = make_tower(
        "image",
        build_encoder=lambda: mobilenetv1.build(nowhere, width=0.25, weights=None),
        build_head=lambda: build_head(head, features=256, width=width),
        train=train,
        pretrained=False,
    )
    text = make_tower(
        "text",
        build_encoder=nn.Identity,
        build_head=lambda: build_head("mlp", features=TEXT_FEATURES, width=width),
        train="frozen",
        pretrained=True,
    )
    return TwoTower(image, text)


def make_unroll(*, steps: int, pairs: int, px: int) -> Unroll:
    """Return one unroll over random pixels towards nearby parameters."""
    two_tower, generator = student(train="full", head="linear", width=256), named_generator(0, "benchmark")
    start = two_tower.init_params(generator)
    target = {name: value + 0.01 * torch.randn(value.shape, generator=generator) for name, value in start.items()}

    def loss(params: Any, data: Any, batch: InnerBatch) -> torch.Tensor:
        return two_tower.loss(params, data["images"][batch.pairs], data["texts"][batch.pairs])

    return Unroll(
        inner_loss=loss,
        start=start,
        outer_loss=partial(matching_losses, start=start, target=target),
        data={
            "images": torch.rand(pairs, 3, px, px, generator=generator),
            "texts": torch.randn(pairs, TEXT_FEATURES, generator=generator),
        },
        learning_rates={"image": torch.tensor(0.01), "text": torch.tensor(0.01)},
        batches=[InnerBatch(torch.randperm(pairs, generator=generator)) for _ in range(steps)],
    )


def one(mode: str, steps: int, pairs: int, px: int) -> tuple[Spent, float, np.ndarray]:
    """Return seconds, bytes above the start, and the gradient of the images."""
    unroll = make_unroll(steps=steps, pairs=pairs, px=px)
    unroll.inner_loss(unroll.start, unroll.data, unroll.batches[0])
    spent, above, result = peak(lambda: GRADIENTS[mode](unroll))
    return spent, above, result.data["images"].numpy()


def measure(size: Size) -> Iterator[Row]:
    """Print one line per mode and number of steps, and yield the rows of the claim."""
    judged = 8 if 8 in size.steps else max(size.steps)
    print(f"{'steps':>5}  {'mode':<10} {'seconds':>8} {'of stored':>9} {'peak MB':>8} {'cosine':>8} {'rel. error':>10}")
    for steps in size.steps:
        found: dict[str, list[tuple[Spent, float, np.ndarray]]] = {mode: [] for mode in MODES}
        for _ in range(size.repeat):
            for mode in MODES:
                found[mode].append(in_fresh_process(one, mode, steps, size.pairs, size.px))
        reference = found["stored"][0][2]
        spent = {mode: median([run[0] for run in runs]) for mode, runs in found.items()}
        above = {mode: statistics.median(run[1] for run in runs) for mode, runs in found.items()}
        error = {}
        for mode, runs in found.items():
            both = [{"images": torch.from_numpy(array)} for array in (runs[0][2], reference)]
            error[mode] = difference(*both)
            ratio = spent[mode].processor / spent["stored"].processor
            print(
                f"{steps:>5}  {mode:<10} {spent[mode].processor:>8.2f} {ratio:>8.2f}x {above[mode] / 1e6:>8.0f} "
                f"{cosine(*both):>8.4f} {error[mode]:>10.1e}",
                flush=True,
            )
        check_same(f"gradient of the images, T = {steps}", error["exact"], limit=1e-4)
        if steps == judged:
            exact, stored, truncated = (above[mode] / 1e6 for mode in ("exact", "stored", "truncated"))
            yield Row(
                f"exact: peak memory at T = {steps}", "stored", f"{exact:.0f} MB", f"{stored:.0f} MB",
                exact / stored, "<= 0.3", "the graph of one step is a larger share of few steps",
            )  # fmt: skip
            print(f"  truncated peaks at {truncated:.0f} MB")
            for mode, goal in (("stored", "<= 1.2"), ("truncated", "<= 1.1")):
                yield Row(
                    f"exact: seconds at T = {steps}",
                    f"{mode} (error {error[mode]:.0e})" if mode == "truncated" else mode,
                    str(spent["exact"]), str(spent[mode]), spent["exact"].processor / spent[mode].processor, goal,
                    "gradients of each step are computed a second time",
                )  # fmt: skip


if __name__ == "__main__":
    main(__doc__, Size, SMALLEST, measure)
