"""Claim: the exact gradient has the memory of the truncated one and the value of the stored one, at about its speed.

python -m benchmarks.gradients [--steps 2 8 32] [--pairs 50] [--px 64] [--repeat 3]

Unrolls one student (MobileNetV1-0.25 with random weights, all parameters matched) in each mode, in a process of its own
to measure its peak memory. Modes alternate, so that other load on the machine affects all of them alike. Prints seconds
(median), peak memory above the start, and cosine and relative error of the image gradient with that of ``stored``.
"""

import argparse
import multiprocessing
import resource
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from engine.io.paths import Paths
from engine.losses.matching import matching_losses
from engine.models.heads import HeadName, build_head
from engine.models.image import mobilenetv1
from engine.models.two_tower import Train, TwoTower, make_tower
from engine.rng import named_generator
from engine.unroll import GRADIENTS, InnerBatch, Unroll

MODES = ("stored", "exact", "truncated")
TEXT_FEATURES = 384


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


def measure(mode: str, steps: int, pairs: int, px: int, threads: int) -> tuple[float, int, np.ndarray]:
    """Return seconds, bytes above the start, and the gradient of the images."""
    torch.set_num_threads(threads)
    unroll = make_unroll(steps=steps, pairs=pairs, px=px)
    unroll.inner_loss(unroll.start, unroll.data, unroll.batches[0])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    result = GRADIENTS[mode](unroll)
    seconds = time.perf_counter() - started
    above = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return seconds, above, result.data["images"].numpy()


def main() -> None:
    """Print one row per mode and number of steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--px", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    print(f"torch {torch.__version__}, {args.threads} threads, {args.pairs} pairs of {args.px} px, {args.repeat} runs")
    print(f"{'steps':>5}  {'mode':<10} {'seconds':>8} {'of stored':>9} {'peak MB':>8} {'cosine':>8} {'rel. error':>10}")
    for steps in args.steps:
        found: dict[str, list[tuple[float, int, np.ndarray]]] = {mode: [] for mode in MODES}
        for _ in range(args.repeat):
            for mode in MODES:
                with context.Pool(1) as pool:
                    found[mode].append(pool.apply(measure, (mode, steps, args.pairs, args.px, args.threads)))
        reference = found["stored"][0][2]
        base = statistics.median(run[0] for run in found["stored"])
        for mode, runs in found.items():
            seconds, peak = statistics.median(run[0] for run in runs), max(run[1] for run in runs)
            gradient = runs[0][2]
            cosine = float((gradient * reference).sum() / np.linalg.norm(gradient) / np.linalg.norm(reference))
            error = float(np.linalg.norm(gradient - reference) / np.linalg.norm(reference))
            print(
                f"{steps:>5}  {mode:<10} {seconds:>8.2f} {seconds / base:>8.2f}x {peak / 1e6:>8.0f} "
                f"{cosine:>8.4f} {error:>10.1e}"
            )


if __name__ == "__main__":
    main()
