"""Images as sums of layers from coarse to fine, so that what is learned is not free to live in single pixels."""

from itertools import takewhile

import torch
from jaxtyping import Float
from torch import Tensor, nn

_DARKEST = 1 / 512
"""Half a step of 8 bits: pixels are drawn this far from 0 and 1, where the logit is infinite."""


class Pyramid(nn.Module):
    """``n`` square images, each the sigmoid of its start's logits plus layers of 1, 2, 4 ... ``finest`` pixels a side.

    Layers begin at zero, so that the first images are those given, to 1/512. Each is enlarged bilinearly, and its three
    colours are mixed by the square root of the colour covariance of all start images, scaled to the largest row of 1:
    one step of a layer then moves the colours together, as those of photos do.

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
        finest = min(finest or size, size)
        sides = [*takewhile(lambda side: side < finest, (2**power for power in range(32))), finest]
        self.register_buffer("start", start, persistent=False)
        self.register_buffer("colours", colour_mixing(start), persistent=False)
        self.layers = nn.ParameterList(torch.zeros(len(images), 3, side, side) for side in sides)

    def forward(self) -> Float[Tensor, "n 3 s s"]:
        """Return the images, differentiable in the layers."""
        size = self.start.shape[-1]
        total = torch.zeros_like(self.start)
        for layer in self.layers:
            enlarge = bilinear(layer.shape[-1], size, torch.zeros(1), torch.ones(1))[0].to(layer)
            total = total + enlarge @ layer @ enlarge.mT
        return (self.start + torch.einsum("cd,ndhw->nchw", self.colours, total)).sigmoid()


def colour_mixing(logits: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "3 3"]:
    """Return the symmetric square root of the covariance of colours, scaled so that its longest row has length 1."""
    colours = logits.cpu().double().transpose(0, 1).flatten(1)
    values, vectors = torch.linalg.eigh(torch.cov(colours) + 1e-6 * torch.eye(3, dtype=torch.float64))
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
