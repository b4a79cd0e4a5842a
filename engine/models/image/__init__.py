"""Image encoders, one adapter a file.

``build(paths, *, options)`` of an adapter returns a module that maps RGB pixels in [0, 1], [b, 3, h, w], to features
[b, features] and normalises its own input. It has two attributes: ``features`` (their number) and ``pretrained``
(False when every student starts from its own random weights).
"""

from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn


@runtime_checkable
class ImageEncoder(Protocol):
    """An image encoder as a tower uses it."""

    features: int
    pretrained: bool

    def __call__(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]: ...


class Normalised(nn.Module):
    """A backbone whose pixels are normalised first."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: nn.Module, *, mean: tuple[float, ...], std: tuple[float, ...], features: int, pretrained: bool
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.features = features
        self.pretrained = pretrained
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        return cast(Tensor, self.backbone((pixels - self.mean) / self.std))
