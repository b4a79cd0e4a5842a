"""Closed-form projectors: what they solve, and a loss of zero where the set is all real pairs."""

from pathlib import Path

import pytest
import torch

from engine.config import components
from engine.io.paths import Paths
from engine.methods.apm import real_projectors, ridge_projector
from engine.rng import named_generator
from tests.toys import tiny_sources, tiny_student


def test_a_projector_has_the_smallest_squared_error_with_its_ridge() -> None:
    draw = named_generator(0, "pairs")
    source, target = torch.randn(5, 8, generator=draw).double(), torch.randn(5, 3, generator=draw).double()
    found = ridge_projector(source, target, 0.3).requires_grad_()
    weight = 0.3 * len(source) * source.square().mean()
    error = (source @ found - target).square().sum() + weight * found.square().sum()
    (gradient,) = torch.autograd.grad(error, found)
    assert gradient.abs().max() < 1e-10


def test_all_real_pairs_have_the_projectors_of_all_real_pairs(paths: Paths) -> None:
    sources = tiny_sources(tiny_student(paths, train="frozen"))
    pairs = sources.pairs
    real = real_projectors(pairs, 0.1, chunk=7)
    rows = {"image": torch.from_numpy(pairs.images[pairs.caption_image]), "text": torch.from_numpy(pairs.texts)}
    scaled = {name: (value - real[f"{name}_mean"]) / real[f"{name}_scale"] for name, value in rows.items()}
    for name, other in (("image", "text"), ("text", "image")):
        assert scaled[name].square().mean() == pytest.approx(1, rel=1e-4)
        assert torch.allclose(ridge_projector(scaled[name], scaled[other], 0.1), real[f"{name}_projector"], atol=1e-4)


@pytest.mark.parametrize("target", ["pairs", "projectors"])
def test_its_loss_falls(paths: Paths, target: str, tmp_path: Path) -> None:
    sources = tiny_sources(tiny_student(paths, train="frozen"))
    method = components.bind("method", "apm", {"num_pairs": 6, "batch": 12, "target": target})
    images = torch.rand(6, 3, 8, 8, generator=named_generator(0, "images"))
    texts = torch.randn(6, sources.pairs.texts.shape[1], generator=named_generator(0, "texts"))
    state = method.initial_state(images, texts, sources, named_generator(0, "state"))
    optimiser = torch.optim.Adam(method.param_groups(state), lr=0.05)
    losses = []
    for step in range(30):
        optimiser.zero_grad()
        losses.append(method.backward(state, sources, named_generator(0, f"{step}"))["loss"])
        optimiser.step()
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
