"""Encoding once gives what encoding at every step would, forwards and backwards."""

import pytest
import torch

from engine.io.paths import Paths
from engine.models.encode_once import encode_once
from engine.models.two_tower import Tower
from engine.rng import named_generator
from tests.toys import PIXELS, tiny_student


def problem(paths: Paths, train: str) -> tuple[Tower, torch.Tensor, torch.Tensor]:
    """Return a tower in float64, five images, and a gradient with respect to the prepared inputs of three of them."""
    tower = tiny_student(paths, train=train, dtype=torch.float64).image
    generator = named_generator(0, "encode")
    images = torch.rand(5, 3, PIXELS, PIXELS, generator=generator, dtype=torch.float64).requires_grad_()
    gradient = torch.randn(tower.prepare(images[:3].detach()).shape, generator=generator, dtype=torch.float64)
    return tower, images, gradient


@pytest.mark.parametrize("train", ["frozen", "full"])
@pytest.mark.parametrize("chunk", [1, 2, 3, 128])
def test_equals_autograd_through_the_encoder(paths: Paths, train: str, chunk: int) -> None:
    tower, images, gradient = problem(paths, train)
    used = torch.tensor([4, 0, 2])
    expected = tower.prepare(images[used])
    expected.backward(gradient)
    reference, images.grad = images.grad, None

    encoded = encode_once(tower, images, used, chunk=chunk)
    assert not encoded.inputs.requires_grad
    torch.testing.assert_close(encoded.inputs, expected.detach(), rtol=1e-12, atol=1e-14)
    encoded.pull_back(gradient)
    torch.testing.assert_close(images.grad, reference, rtol=1e-10, atol=1e-14)
    assert images.grad[[1, 3]].eq(0).all()
    assert images.grad[used].flatten(1).abs().amax(1).gt(0).all()


@pytest.mark.parametrize("chunk", [2, 128])
def test_gradients_are_added(paths: Paths, chunk: int) -> None:
    tower, images, gradient = problem(paths, "frozen")
    encode_once(tower, images, torch.arange(3), chunk=chunk).pull_back(gradient)
    once = images.grad.clone()
    encode_once(tower, images, torch.arange(3), chunk=chunk).pull_back(gradient)
    torch.testing.assert_close(images.grad, 2 * once)


def test_inputs_are_a_copy_of_their_own(paths: Paths) -> None:
    tower, images, _ = problem(paths, "frozen")
    encoded = encode_once(tower, images, torch.arange(3))
    before = encoded.kept[1].detach().clone()
    encoded.inputs.requires_grad_()
    assert torch.equal(encoded.kept[1], before)
    assert images.grad is None


def test_images_that_are_not_learned_are_encoded_once(paths: Paths) -> None:
    tower, images, gradient = problem(paths, "frozen")
    images.requires_grad_(False)
    runs: list[int] = []
    tower.frozen.register_forward_hook(lambda _module, given, _output: runs.append(len(given[0])))
    for used in (torch.tensor([4, 0, 2]), torch.tensor([1, 3])):
        encoded = encode_once(tower, images, used, chunk=2)
        encoded.pull_back(gradient[: len(used)])
        torch.testing.assert_close(encoded.inputs, tower.prepare(images)[used], rtol=1e-12, atol=1e-14)
        assert not encoded.inputs.requires_grad
    assert [number for number in runs if number < 5] == [2, 2, 1]
    images.add_(0.1)
    encoded = encode_once(tower, images, torch.arange(3))
    torch.testing.assert_close(encoded.inputs, tower.prepare(images)[:3], rtol=1e-12, atol=1e-14)
