"""Running a frozen encoder once an outer step, and its gradient back to the pixels once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.models.two_tower import Tower


@dataclass(frozen=True)
class EncodedOnce:
    """Prepared inputs (a detached copy) of ``pixels``, and the way back for their accumulated gradient.

    The frozen part does not change within an outer step, so that an unroll of any length needs it once forwards and
    once backwards; published code runs it at every inner step, twice. Of several chunks no graph is kept: each is
    run again on the way back, so that memory does not grow with the number of pairs.
    """

    tower: Tower
    pixels: Tensor
    inputs: Tensor
    chunk: int
    kept: tuple[Tensor, Tensor] | None
    """The only chunk's pixels and its features with their graph, where one chunk holds everything."""

    def pull_back(self, gradient: Tensor) -> None:
        """Add to what ``pixels`` came from the pull-back of ``gradient``, which is with respect to ``inputs``."""
        parts = zip(self.pixels.detach().split(self.chunk), gradient.split(self.chunk), strict=True)
        pulled = [_pull(*(self.kept or _run(self.tower, pixels)), part) for pixels, part in parts]
        self.pixels.backward(torch.cat(pulled))


def encode_once(tower: Tower, pixels: Tensor, *, chunk: int = 128) -> EncodedOnce:
    """Run the frozen part of ``tower`` on ``pixels``, at most ``chunk`` at a time."""
    if len(pixels) <= chunk:
        kept = _run(tower, pixels.detach())
        return EncodedOnce(tower, pixels, kept[1].detach(), chunk, kept)
    with torch.no_grad():
        inputs = torch.cat([tower.prepare(part) for part in pixels.split(chunk)])
    return EncodedOnce(tower, pixels, inputs, chunk, None)


def _run(tower: Tower, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``pixels`` as a leaf and their prepared inputs with the graph between them."""
    leaf = pixels.requires_grad_()
    return leaf, tower.prepare(leaf)


def _pull(leaf: Tensor, output: Tensor, gradient: Tensor) -> Tensor:
    return torch.autograd.grad(output, leaf, gradient)[0]
