"""Every image encoder in its folder through one matrix, at sizes that need no download."""

from functools import partial

import pytest
import torch

from engine.config import components
from engine.io.paths import Paths
from engine.models.heads import build_head
from engine.models.image import ImageEncoder
from engine.models.two_tower import Tower, make_tower
from engine.rng import forked, named_generator
from tests.models.clips import register_tiny_clip

PIXELS = 32
SMALL = {
    "convnet": {"width": 8, "depth": 2, "grid": 2},
    "mobilenetv1": {"width": 0.25},
    "open_clip": {"model": "tiny-clip"},
    "timm": {"model": "test_efficientnet", "pretrained": False},
}
"""Options that make an encoder small and free of downloads, where its defaults are not."""

ENCODERS = components.names("image")


@pytest.fixture(autouse=True, scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> None:
    register_tiny_clip(tmp_path_factory.mktemp("clip"))


def build(name: str, paths: Paths) -> ImageEncoder:
    with forked(named_generator(0, "encoder")):
        return components.bind("image", name, SMALL.get(name, {}))(paths)


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, PIXELS, PIXELS, generator=named_generator(0, "images"))


def trained_tower(name: str, paths: Paths) -> Tower:
    probe = build(name, paths)
    return make_tower(
        "image",
        build_encoder=lambda: components.bind("image", name, SMALL.get(name, {}))(paths),
        build_head=partial(build_head, "linear", features=probe.features, width=4),
        train="full",
        pretrained=probe.pretrained,
    )


def test_there_are_encoders() -> None:
    assert set(SMALL) <= set(ENCODERS)


@pytest.mark.parametrize("name", ENCODERS)
def test_says_how_many_features_it_gives_and_that_it_is_not_pretrained(name: str, paths: Paths) -> None:
    encoder = build(name, paths)
    assert isinstance(encoder, ImageEncoder)
    with torch.no_grad():
        assert encoder(images()).shape == (3, encoder.features)
    assert encoder.pretrained is False


@pytest.mark.parametrize("name", ENCODERS)
def test_an_image_is_embedded_alone_and_without_drawing(name: str, paths: Paths) -> None:
    encoder = build(name, paths)
    before = torch.get_rng_state()
    with torch.no_grad():
        together, alone = encoder(images()), encoder(images()[1:2])
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(alone, together[1:2], rtol=1e-4, atol=1e-5)
    assert not any(module.training for module in encoder.modules())
    assert together.std(dim=0).max() > 0


@pytest.mark.parametrize("name", ENCODERS)
def test_normalises_pixels_by_itself(name: str, paths: Paths) -> None:
    encoder = build(name, paths)
    with torch.no_grad():
        expected = encoder.backbone((images() - encoder.mean) / encoder.std)
        assert torch.equal(encoder(images()), expected)
    assert 0 < encoder.mean.min() <= encoder.mean.max() < 1
    assert 0 < encoder.std.min() <= encoder.std.max() < 1
    assert not {"mean", "std"} & encoder.state_dict().keys()


@pytest.mark.parametrize("name", ENCODERS)
def test_students_draw_their_own_encoder_from_the_generator(name: str, paths: Paths) -> None:
    tower = trained_tower(name, paths)
    first, again, other = (tower.init_params(named_generator(seed, "init")) for seed in (0, 0, 1))
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    encoder_weights = [key for key, value in first.items() if ".encoder." in key and value.ndim > 1]
    assert encoder_weights
    assert not any(torch.equal(first[key], other[key]) for key in encoder_weights)


@pytest.mark.parametrize("name", ENCODERS)
def test_has_second_derivatives_that_agree_with_finite_differences(name: str, paths: Paths) -> None:
    tower = trained_tower(name, paths)
    tower.trained.double()
    params = {
        key: value.double().requires_grad_() for key, value in tower.init_params(named_generator(0, "init")).items()
    }
    directions = {
        key: torch.randn(v.shape, generator=named_generator(0, key), dtype=v.dtype) for key, v in params.items()
    }
    pixels = images(2).double().requires_grad_()

    def slope(at: torch.Tensor) -> torch.Tensor:
        """Return the derivative of the loss in the parameters' directions."""
        loss = tower.apply(params, at).square().mean()
        gradients = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        return sum((one * directions[key]).sum() for key, one in zip(params, gradients, strict=True))

    (mixed,) = torch.autograd.grad(slope(pixels), pixels)
    shift = 1e-6 * torch.randn(pixels.shape, generator=named_generator(0, "shift"), dtype=pixels.dtype)
    numeric = (slope(pixels + shift) - slope(pixels - shift)).item() / 2
    assert mixed.isfinite().all()
    assert (mixed * shift).sum().item() == pytest.approx(numeric, rel=1e-3)
