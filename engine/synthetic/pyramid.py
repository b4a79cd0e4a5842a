"""Images as sums of layers from coarse to fine, so that learning changes whole regions and not only single pixels."""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

_DARKEST = 1 / 512
"""Half a step of 8 bits: pixels are drawn this far from 0 and 1, where the logit is infinite."""


class Pyramid(nn.Module):
    """``n`` square images, each the sigmoid of its start's logits plus layers of 1, 2, 4 ... ``finest`` pixels a side.

    Layers begin at zero, so that the first images are those given, to 1/512, where these lie in [0, 1]. Each is
    enlarged bilinearly, and its three colours are mixed by the square root of the colour covariance of all start
    images, scaled to the largest row of 1: one step of a layer then moves the colours together, as in photos.

    References:
        The parametrisation of linear gradient matching, arXiv 2511.16674. There the image is in the layers from the
        start; with Adam, whose steps do not depend on values, both are the same. Its finer layers join later, ours are
        there from the beginning or, above ``finest``, not at all.
    """

    start: Tensor
    colours: Tensor

    def __init__(self, images: Float[Tensor, "n 3 s s"], *, finest: int | None = None) -> None:
        super().__init__()
        start = images.detach().float().clamp(_DARKEST, 1 - _DARKEST).logit()
        size = images.shape[-1]
        finest = finest or size
        sides = [*takewhile(lambda side: side < finest, (2**power for power in range(32))), finest]
        self.register_buffer("start", start, persistent=False)
        self.register_buffer("colours", colour_mixing(start), persistent=False)
        self.layers = nn.ParameterList(torch.zeros(len(images), 3, side, side) for side in sides)
        for number, side in enumerate(sides):
            enlarge = bilinear(side, size, torch.zeros(1), torch.ones(1))[0]
            self.register_buffer(f"enlarge_{number}", enlarge, persistent=False)

    def forward(self) -> Float[Tensor, "n 3 s s"]:
        """Return the images, differentiable in the layers."""
        total = torch.zeros_like(self.start)
        for number, layer in enumerate(self.layers):
            enlarge = self.get_buffer(f"enlarge_{number}")
            total = total + enlarge @ layer @ enlarge.mT
        return (self.start + torch.einsum("cd,ndhw->nchw", self.colours, total)).sigmoid()


def learned_as_pyramid(
    groups: Sequence[Mapping[str, Any]], images: nn.Parameter, start: Float[Tensor, "n 3 s s"], *, finest: int | None
) -> tuple[Pyramid, list[dict[str, Any]]]:
    """Return a pyramid of ``start``, which ``images`` then show, and parameter groups that have its layers for them.

    Raises:
        ValueError: none of ``groups`` is called "image", since images are not learned; or ``finest`` is above the side.
    """
    if "image" not in {entry["name"] for entry in groups}:
        raise ValueError("method.images is 'pyramid', expected 'pixels', since method.learn.images is false.")
    if (finest or 1) > (side := start.shape[-1]):
        raise ValueError(f"method.finest is {finest}, expected at most the {side} pixels of the images.")
    pyramid = Pyramid(start, finest=finest).to(images.device)
    images.detach().copy_(pyramid().detach())
    layers = {"params": list(pyramid.parameters())}
    return pyramid, [{**entry, **(layers if entry["name"] == "image" else {})} for entry in groups]


def colour_mixing(logits: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "3 3"]:
    """Return the symmetric square root of the covariance of colours, scaled so that its longest row has length 1."""
    colours = logits.cpu().double().transpose(0, 1).flatten(1)
    values, vectors = torch.linalg.eigh(torch.cov(colours, correction=0) + 1e-6 * torch.eye(3, dtype=torch.float64))
    root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    return (root / root.norm(dim=1).max()).to(logits)


def bilinear(
    size: int, samples: int, first: Float[Tensor, " n"], length: Float[Tensor, " n"]
) -> Float[Tensor, "n {samples} {size}"]:
    """Return matrices that read ``samples`` values from a row of ``size``, between pixels by the two nearest.

    Row i reads the part of the image that begins at ``first[i]`` and is ``length[i]`` long, both as shares of it.
    """
    centres = (torch.arange(samples) + 0.5) / samples
    places = (size * (first[:, None] + length[:, None] * centres) - 0.5).clamp(0, size - 1)
    return (1 - (places[:, :, None] - torch.arange(size)).abs()).clamp(min=0)
