"""The images that a method sees of a set: learned as pixels or as a pyramid, whole, in tiles or in random views."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from engine.recipes import Views
from engine.synthetic.pyramid import bilinear
from engine.synthetic.set import SyntheticSet, with_part
from engine.synthetic.tiles import drawn_tiles

WithSet = TypeVar("WithSet", bound=nn.Module)


def with_images(state: WithSet, images: Float[Tensor, "n 3 h w"]) -> WithSet:
    """Return ``state``, which has a set ``synthetic``, with a leaf of these images; all other parameters are shared."""
    synthetic: SyntheticSet = state.synthetic  # type: ignore[assignment]  # as State declares it
    fresh = nn.Parameter(images.detach(), requires_grad=synthetic.images.requires_grad)
    return with_part(state, "synthetic", with_part(synthetic, "images", fresh))


@contextmanager
def shown(state: WithSet, views: Views | None, generator: Generator) -> Iterator[WithSet]:
    """Give ``state`` with views of its set's images, and add the gradient of what was seen to that of the images.

    Of mosaics, one tile of each image is seen; without views and mosaics, ``state`` is given as it is.
    """
    synthetic: SyntheticSet = state.synthetic  # type: ignore[assignment]
    if views is None and synthetic.tiles == 1:
        yield state
        return
    seen: Tensor = synthetic.images
    if synthetic.tiles > 1:
        seen = drawn_tiles(seen, synthetic.tiles, generator)
    if views is not None:
        seen = random_views(seen, views, generator)
    given = with_images(state, seen)
    yield given
    gradient = given.synthetic.images.grad  # type: ignore[union-attr]
    if gradient is not None:
        seen.backward(gradient)


def random_views(images: Float[Tensor, "n 3 h w"], views: Views, generator: Generator) -> Float[Tensor, "n 3 h w"]:
    """Return a random crop of each image, enlarged bilinearly to the image's size, with Gaussian noise.

    A crop keeps the image's proportions and a share of its area that is uniform in ``views.crop``; at [1, 1] images
    stay as they are. No image is mirrored, because captions say "left". Differentiable, and by matrix products alone,
    which repeat bitwise on a GPU where the gradient of a sampled grid does not. ``generator`` lives on the CPU.
    """
    count, _, height, width = images.shape
    smallest, largest = views.crop
    if smallest < 1:
        side = (smallest + (largest - smallest) * torch.rand(count, generator=generator)).sqrt()
        first = (1 - side) * torch.rand(2, count, generator=generator)
        rows = bilinear(height, height, first[0], side).to(images)
        columns = bilinear(width, width, first[1], side).to(images)
        images = rows[:, None] @ images @ columns[:, None].mT
    if views.noise:
        images = images + views.noise * torch.randn(images.shape, generator=generator).to(images)
    return images
