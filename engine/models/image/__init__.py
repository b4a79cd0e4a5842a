"""Image encoders, one adapter a file.

``build(paths, *, options)`` of an adapter returns a module that maps RGB pixels in [0, 1], [b, 3, h, w], to features
[b, features] and normalises its own input. It has two attributes: ``features`` (their number) and ``pretrained``
(False when every student starts from its own random weights).
"""

from collections.abc import Mapping
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engine.models.weights import reason


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


@torch.no_grad()
def checked(encoder: nn.Module, image_px: int, *, name: str, options: Mapping[str, Any]) -> ImageEncoder:
    """Return ``encoder``, after it has given its features of a grey image of the data set's size.

    Raises:
        ValueError: it cannot read images of this size, or gives other features than it says; the message names
            ``student.image.image_px`` where that is one of the ``options`` and another size.
    """
    what, built = " ".join(str(part) for part in (name, options.get("model")) if part), cast(ImageEncoder, encoder)
    try:
        features = encoder.eval()(torch.full((1, 3, image_px, image_px), 0.5))
    except Exception as error:
        fixed = options.get("image_px", image_px) != image_px
        key = "student.image.image_px" if fixed else "data.image_px"
        wanted = f"{key}: {image_px}, or images of another size" if fixed else "larger images"
        raise ValueError(
            f"{key}: {what} as it is configured cannot read images of data.image_px = {image_px} ({reason(error)}), "
            f"expected {wanted}."
        ) from error
    if features.shape != (1, built.features) or not features.isfinite().all():
        raise ValueError(
            f"student.image.encoder: {what} gives an output of {list(features.shape)} for an image of {image_px} "
            f"pixels, expected {built.features} finite features."
        )
    return built
