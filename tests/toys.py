"""Tiny but complete inputs for the tests: students of a few hundred parameters, in float64 where it matters."""

import zlib
from functools import partial

import numpy as np
import torch
from torch import nn

from engine.data.prepared import PreparedPairs
from engine.experts.train import ExpertRecipe, train_expert
from engine.experts.trajectory import MemorySource
from engine.io.paths import Paths
from engine.losses.matching import matching_losses
from engine.methods import Sources
from engine.models.heads import build_head
from engine.models.image import convnet
from engine.models.two_tower import TwoTower, make_tower
from engine.rng import named_generator
from engine.unroll import InnerBatch, Unroll

PIXELS = 8
TEXT_FEATURES = 6


def tiny_student(paths: Paths, *, train: str = "full", dtype: torch.dtype = torch.float32) -> TwoTower:
    """Return a student with a two-block ConvNet and an MLP head on texts."""

    def build_encoder() -> nn.Module:
        return convnet.build(paths, width=8, depth=2, growth=1.0, grid=1).to(dtype)

    image = make_tower(
        "image",
        build_encoder=build_encoder,
        build_head=lambda: build_head("linear", features=8, width=5).to(dtype),
        train=train,  # type: ignore[arg-type]
        pretrained=False,
    )
    text = make_tower(
        "text",
        build_encoder=nn.Identity,
        build_head=lambda: build_head("mlp", features=TEXT_FEATURES, width=5).to(dtype),
        train="frozen",
        pretrained=True,
    )
    return TwoTower(image, text, temperature=0.5)


def tiny_pairs(student: TwoTower, *, images: int = 12, captions_each: int = 2, name: str = "data") -> PreparedPairs:
    """Return random pairs that ``student`` can be trained on."""
    random = np.random.default_rng(0 if name == "data" else zlib.crc32(name.encode()))
    texts = random.normal(size=(images * captions_each, TEXT_FEATURES)).astype(np.float32)
    pixels = random.integers(0, 256, (images, 3, PIXELS, PIXELS), dtype=np.uint8)
    with torch.no_grad():
        inputs = student.image.prepare(torch.from_numpy(pixels).float() / 255).numpy()
    frozen = inputs.ndim == 2
    return PreparedPairs(inputs if frozen else pixels, texts, np.repeat(np.arange(images), captions_each))


def tiny_sources(student: TwoTower, *, epochs: int = 3, experts: int = 2) -> Sources:
    """Return sources with trained experts."""
    pairs = tiny_pairs(student)
    recipe = ExpertRecipe(batch_size=8)
    runs = [
        train_expert(student, pairs, seed=0, name=f"expert/{number}", epochs=epochs, recipe=recipe)
        for number in range(experts)
    ]
    return Sources(student, MemorySource([dict(run) for run in runs]), pairs)


def tiny_unroll(
    paths: Paths, *, steps: int = 3, dtype: torch.dtype = torch.float64, pairs: int = 5, still: str = "nothing"
) -> Unroll:
    """Return an unroll over random images, texts and batches, towards an expert that moved except in ``still``."""
    student = tiny_student(paths, dtype=dtype)
    generator = named_generator(0, "unroll")
    start = {name: value.to(dtype) for name, value in student.init_params(generator).items()}
    images = torch.rand(pairs, 3, PIXELS, PIXELS, generator=generator, dtype=dtype)
    texts = torch.randn(pairs, TEXT_FEATURES, generator=generator, dtype=dtype)
    target = {n: v + 0.1 * torch.randn(v.shape, generator=generator, dtype=dtype) for n, v in start.items()}
    target |= {name: value for name, value in start.items() if name.startswith(still)}
    batches = [InnerBatch(torch.randperm(pairs, generator=generator)[:4]) for _ in range(steps)]

    def loss(params: dict, data: dict, batch: InnerBatch) -> torch.Tensor:
        return student.loss(params, data["images"][batch.pairs], data["texts"][batch.pairs])

    learning_rates = {"image": torch.tensor(0.3, dtype=dtype), "text": torch.tensor(0.2, dtype=dtype)}
    outer_loss = partial(matching_losses, start=start, target=target)
    return Unroll(loss, start, outer_loss, {"images": images, "texts": texts}, learning_rates, batches)
