"""Claim: running a frozen backbone once per outer step is faster than at every inner step, with the same gradient.

python -m benchmarks.encode_once [--steps 8] [--pairs 100] [--batches 100 20] [--px 128] [--repeat 3]

Both variants compute the exact gradient of the same unroll of two heads behind a frozen MobileNetV1-0.25 with random
weights; the reference encodes the pairs in each inner step, as published code does. Variants alternate. Prints seconds
(median) and the relative difference of the image gradients.
"""

import argparse
import statistics
import time
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.gradients import TEXT_FEATURES, student
from engine.losses.matching import matching_losses
from engine.models.two_tower import Tower, TwoTower
from engine.rng import named_generator
from engine.synthetic.set import SyntheticSet
from engine.tensors import Params
from engine.unroll import InnerBatch
from engine.unroll.student import inner_batches, inner_loss, unroll_backward


def encoding_every_time(once: TwoTower) -> TwoTower:
    """Return the same student with a backbone that runs in every application of its image tower."""
    encoder = once.image.frozen

    class Encoding(Tower):
        def apply(self, params: Params, prepared: Tensor) -> Tensor:
            return super().apply(params, encoder(prepared))

    values = {name: getattr(once.image, name) for name in Tower.__dataclass_fields__}
    return replace(once, image=Encoding(**{**values, "frozen": nn.Identity()}))


def outer_step(
    two_tower: TwoTower, synthetic: SyntheticSet, start: Params, target: Params, batches: list[InnerBatch]
) -> float:
    """Compute the gradient of one outer step, and return its seconds."""
    synthetic.zero_grad()
    outer_loss = partial(matching_losses, start=start, target=target)
    started = time.perf_counter()
    unroll_backward(synthetic, two_tower, start, batches, inner_loss(two_tower), outer_loss, gradient="exact")
    return time.perf_counter() - started


def main() -> None:
    """Print one row per size of the inner batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--batches", type=int, nargs="+", default=[100, 20])
    parser.add_argument("--px", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    once = student(train="frozen", head="mlp", width=512)
    every = encoding_every_time(once)
    generator = named_generator(0, "benchmark")
    start = once.init_params(generator)
    target = {name: value + 0.01 * torch.randn(value.shape, generator=generator) for name, value in start.items()}
    images = torch.rand(args.pairs, 3, args.px, args.px, generator=generator)
    texts = torch.randn(args.pairs, TEXT_FEATURES, generator=generator)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.steps} inner steps, {args.repeat} runs")
    print(f"{'batch':>5} {'once, s':>8} {'every step, s':>14} {'ratio':>6} {'difference':>11}")
    for batch in args.batches:
        synthetic = SyntheticSet(images, texts, {"image": 0.1, "text": 0.1})
        batches = inner_batches(args.pairs, batch, args.steps, generator)
        seconds: dict[str, list[float]] = {"once": [], "every": []}
        gradients: dict[str, Tensor] = {}
        for _ in range(args.repeat):
            for name, two_tower in (("once", once), ("every", every)):
                seconds[name].append(outer_step(two_tower, synthetic, start, target, batches))
                assert synthetic.images.grad is not None
                gradients[name] = synthetic.images.grad.clone()
        a, b = statistics.median(seconds["once"]), statistics.median(seconds["every"])
        away = float((gradients["once"] - gradients["every"]).norm() / gradients["every"].norm())
        print(f"{batch:>5} {a:>8.2f} {b:>14.2f} {b / a:>5.1f}x {away:>11.1e}")


if __name__ == "__main__":
    main()
