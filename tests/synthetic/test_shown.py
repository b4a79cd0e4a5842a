"""What a method sees of a set's images: views and pyramids, their gradients, and that they change nothing when off."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.nn.functional import interpolate

from engine.methods import State
from engine.recipes import Views
from engine.rng import named_generator
from engine.synthetic.pyramid import Pyramid, bilinear, colour_mixing, learned_as_pyramid
from engine.synthetic.set import SyntheticSet
from engine.synthetic.shown import random_views, shown


def photos(count: int = 3, size: int = 16) -> Tensor:
    """Return smooth images in [0, 1] whose edges are black and white."""
    coarse = torch.rand(count, 3, 4, 4, generator=named_generator(0, "photos"))
    images = interpolate(coarse, size=(size, size), mode="bilinear").double()
    images[:, :, 0], images[:, :, -1] = 0, 1
    return images


def test_a_whole_view_without_noise_is_the_image_itself() -> None:
    images = photos()
    views = Views(crop=(1.0, 1.0))
    assert random_views(images, views, named_generator(0, "view")) is images


def test_a_crop_shows_a_part_of_the_image_in_its_proportions() -> None:
    ramp = torch.arange(32.0)[:, None].expand(32, 32)
    both = torch.stack([ramp, ramp.T, ramp * 0]).expand(64, 3, 32, 32)
    seen = random_views(both, Views(crop=(0.25, 0.5)), named_generator(0, "view"))
    slopes = [(seen[:, 0, 20] - seen[:, 0, 10])[:, 0] / 10, (seen[:, 1, :, 20] - seen[:, 1, :, 10])[:, 0] / 10]
    assert torch.allclose(slopes[0], slopes[1], atol=1e-4)  # a square stays a square
    assert 0.5 <= slopes[0].min() < 0.53
    assert 0.68 < slopes[0].max() <= 0.5**0.5 + 1e-6
    assert seen[:, :2].min() >= 0
    assert seen[:, :2].max() <= 31
    starts = seen[:, 0, 0, 0]
    assert starts.min() < 3
    assert starts.max() > 10


def test_noise_has_its_standard_deviation() -> None:
    seen = random_views(torch.zeros(8, 3, 32, 32), Views(crop=(1.0, 1.0), noise=0.05), named_generator(0, "view"))
    assert seen.std() == pytest.approx(0.05, rel=0.05)


def test_views_and_pyramids_are_differentiable() -> None:
    views = Views(crop=(0.5, 0.9), noise=0.1)
    images = photos(2, 5).requires_grad_()
    assert gradcheck(lambda given: random_views(given, views, named_generator(0, "view")), images)
    pyramid = Pyramid(photos(2, 4)).double()
    with torch.no_grad():
        for number, layer in enumerate(pyramid.layers):
            layer.normal_(generator=named_generator(number, "layer"))
    layers = list(pyramid.parameters())

    def render(*given: Tensor) -> Tensor:
        return torch.func.functional_call(pyramid, dict(zip(dict(pyramid.named_parameters()), given, strict=True)), ())

    assert gradcheck(render, layers)


@pytest.mark.parametrize("size", [16, 24])
def test_a_pyramid_begins_as_its_photos(size: int) -> None:
    images = photos(4, size)
    assert (Pyramid(images)() - images).abs().max() <= 1 / 255


def test_a_pyramid_has_layers_up_to_the_finest() -> None:
    assert [layer.shape[-1] for layer in Pyramid(photos(2, 24)).layers] == [1, 2, 4, 8, 16, 24]
    pyramid = Pyramid(photos(2, 16), finest=4)
    assert [layer.shape[-1] for layer in pyramid.layers] == [1, 2, 4]
    with torch.no_grad():
        pyramid.layers[0].fill_(0.1)
        pyramid.layers[2][:, 1] = torch.eye(4)
    changed = (pyramid().logit() - pyramid.start).double()
    smooth = interpolate(torch.eye(4)[None, None].double(), size=(16, 16), mode="bilinear")[0, 0]
    layers = torch.stack([torch.full((16, 16), 0.1), 0.1 + smooth, torch.full((16, 16), 0.1)]).double()
    assert torch.allclose(changed[0], torch.einsum("cd,dhw->chw", pyramid.colours.double(), layers), atol=1e-3)


def test_colours_are_mixed_by_the_root_of_their_covariance() -> None:
    grey = torch.randn(4, 1, 8, 8, generator=named_generator(0, "grey")).expand(4, 3, 8, 8)
    mixing = colour_mixing(grey)
    assert torch.allclose(mixing, mixing.T)
    assert torch.allclose(mixing, torch.full((3, 3), 3**-0.5), atol=1e-2)


def test_bilinear_reads_as_interpolate_does() -> None:
    row = torch.randn(7, generator=named_generator(0, "row"))
    read = bilinear(7, 20, torch.zeros(1), torch.ones(1))[0] @ row
    assert torch.allclose(read, interpolate(row[None, None], size=20, mode="linear")[0, 0], atol=1e-6)


def test_gradients_of_what_was_seen_reach_the_images() -> None:
    images = photos(2, 8).float()
    state = State(SyntheticSet(images, torch.zeros(2, 3), {"image": 0.1, "text": 0.1}))
    weights = torch.randn(2, 3, 8, 8, generator=named_generator(0, "weights"))
    with shown(state, None, named_generator(0, "view")) as same:
        assert same is state
    views = Views(crop=(0.5, 0.8))
    with shown(state, views, named_generator(0, "view")) as seen:
        assert seen.synthetic.texts is state.synthetic.texts
        (seen.synthetic.images * weights).sum().backward()
    direct = images.clone().requires_grad_()
    (random_views(direct, views, named_generator(0, "view")) * weights).sum().backward()
    assert torch.equal(state.synthetic.images.grad, direct.grad)


def test_a_pyramid_is_learned_in_the_place_of_pixels() -> None:
    start, images = photos(2, 8).float(), nn.Parameter(torch.zeros(2, 3, 8, 8))
    pyramid, groups = learned_as_pyramid(
        [{"name": "image", "params": [images]}, {"name": "text"}], images, start, finest=4
    )
    assert groups == [{"name": "image", "params": list(pyramid.parameters())}, {"name": "text"}]
    assert torch.equal(images, pyramid())
    with pytest.raises(ValueError, match=r"method\.images is 'pyramid', .* since method\.learn\.images is false"):
        learned_as_pyramid([{"name": "text"}], images, start, finest=None)
    with pytest.raises(ValueError, match=r"method\.finest is 9, expected at most the 8 pixels"):
        learned_as_pyramid([{"name": "image"}], images, start, finest=9)
