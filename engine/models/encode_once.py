"""Run a frozen encoder once per outer step, and its backward pass to the pixels once."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from engine.models.two_tower import Tower

_still = WeakIdKeyDictionary()
"""By images that are not learned: the number of changes to them, and their prepared inputs by tower."""


@dataclass(frozen=True)
class EncodedOnce:
    """Prepared inputs (a detached copy) of ``pixels``, and the backward pass of their accumulated gradient.

    The frozen part does not change within an outer step, so an unroll of any length needs it once forward and once
    backward; published code runs it at every inner step, twice. With several chunks no graph is kept: each is run again
    in the backward pass, so that memory does not grow with the number of pairs.
    """

    tower: Tower
    pixels: Tensor
    inputs: Tensor
    chunk: int
    kept: tuple[Tensor, Tensor] | None
    """Pixels and features with their graph, where one chunk holds everything and the pixels are learned."""

    def pull_back(self, gradient: Tensor) -> None:
        """Backpropagate ``gradient``, which is with respect to ``inputs``, through ``pixels`` if they are learned."""
        if not self.pixels.requires_grad:
            return
        parts = zip(self.pixels.detach().split(self.chunk), gradient.split(self.chunk), strict=True)
        pulled = [_pull(*(self.kept or _run(self.tower, pixels)), part) for pixels, part in parts]
        self.pixels.backward(torch.cat(pulled))


def encode_once(tower: Tower, images: Tensor, used: Tensor, *, chunk: int = 128) -> EncodedOnce:
    """Run the frozen part of ``tower`` on the rows ``used`` of ``images``, at most ``chunk`` at a time.

    Images that are not learned are encoded when they are first seen, all of them, and not again.
    """
    pixels = images[used]
    if not images.requires_grad:
        return EncodedOnce(tower, pixels, _encoded_still(tower, images, chunk)[used], chunk, None)
    if len(pixels) <= chunk:
        kept = _run(tower, pixels.detach())
        return EncodedOnce(tower, pixels, kept[1].detach(), chunk, kept)
    return EncodedOnce(tower, pixels, _encoded(tower, pixels, chunk), chunk, None)


def _encoded_still(tower: Tower, images: Tensor, chunk: int) -> Tensor:
    """Return the prepared inputs of images that only a checkpoint may replace."""
    changes, known = _still.get(images, (None, None))
    if changes != images._version:
        known = WeakIdKeyDictionary()
        _still[images] = images._version, known
    if tower not in known:
        known[tower] = _encoded(tower, images, chunk)
    encoded: Tensor = known[tower]
    return encoded


@torch.no_grad()
def _encoded(tower: Tower, pixels: Tensor, chunk: int) -> Tensor:
    return torch.cat([tower.prepare(part) for part in pixels.split(chunk)])


def _run(tower: Tower, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``pixels`` as a leaf and their prepared inputs with the graph between them."""
    leaf = pixels.requires_grad_()
    return leaf, tower.prepare(leaf)


def _pull(leaf: Tensor, output: Tensor, gradient: Tensor) -> Tensor:
    return torch.autograd.grad(output, leaf, gradient)[0]
