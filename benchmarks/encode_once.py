"""Claim: running a frozen backbone once per outer step is faster than at every inner step, with the same gradient.

python -m benchmarks.encode_once [--steps 8] [--pairs 100] [--batches 100 20] [--px 128] [--repeat 3]

Both variants compute the exact gradient of the same unroll of two heads behind a frozen MobileNetV1-0.25 with random
weights; the reference encodes the pairs in each inner step, as published code does. Variants alternate.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.common import Row, check_same, difference, interleave, main
from benchmarks.gradients import TEXT_FEATURES, student
from engine.losses.matching import matching_losses
from engine.models.two_tower import Tower, TwoTower
from engine.rng import named_generator
from engine.synthetic.set import SyntheticSet
from engine.tensors import Params
from engine.unroll import InnerBatch
from engine.unroll.student import inner_batches, inner_loss, unroll_backward

GOALS = {"all": ">= 6", "part": ">= 2"}


@dataclass(frozen=True)
class Size:
    """An unroll of ``steps`` inner steps, once for each size of the inner batch."""

    steps: int = 8
    pairs: int = 100
    batches: tuple[int, ...] = (100, 20)
    px: int = 128
    repeat: int = 3


SMALLEST = Size(steps=2, pairs=10, batches=(10, 4), px=32, repeat=1)


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
) -> Params:
    """Return the gradient of one outer step."""
    synthetic.zero_grad()
    outer_loss = partial(matching_losses, start=start, target=target)
    unroll_backward(synthetic, two_tower, start, batches, inner_loss(two_tower), outer_loss, gradient="exact")
    return {name: value.grad.clone() for name, value in synthetic.named_parameters() if value.grad is not None}


def measure(size: Size) -> Iterator[Row]:
    """Yield one row per size of the inner batch."""
    once = student(train="frozen", head="mlp", width=512)
    every = encoding_every_time(once)
    generator = named_generator(0, "benchmark")
    start = once.init_params(generator)
    target = {name: value + 0.01 * torch.randn(value.shape, generator=generator) for name, value in start.items()}
    images = torch.rand(size.pairs, 3, size.px, size.px, generator=generator)
    texts = torch.randn(size.pairs, TEXT_FEATURES, generator=generator)
    for batch in size.batches:
        synthetic = SyntheticSet(images, texts, {"image": 0.1, "text": 0.1})
        batches = inner_batches(size.pairs, batch, size.steps, generator)
        ways = {
            name: partial(outer_step, two_tower, synthetic, start, target, batches)
            for name, two_tower in (("once", once), ("every", every))
        }
        spent, gradients = interleave(ways, size.repeat)
        check_same(f"gradients, {batch} pairs a step", difference(gradients["once"], gradients["every"]), limit=1e-4)
        yield Row(
            f"encode once: an outer step, {batch} of {size.pairs} pairs a step", "encoding in every inner step",
            str(spent["once"]), str(spent["every"]), spent["every"].processor / spent["once"].processor,
            GOALS["all" if batch == size.pairs else "part"], "heads take a larger share of a small step",
        )  # fmt: skip


if __name__ == "__main__":
    main(__doc__, Size, SMALLEST, measure)
