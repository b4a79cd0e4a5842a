"""Image encoders, one adapter a file.

An adapter's ``build(places, *, options)`` returns a module that maps RGB pixels in [0, 1], [b, 3, h, w], to features
[b, features]; it normalises its own input. It carries two attributes: ``features`` (their number) and ``pretrained``
(False when every student starts from its own random weights).
"""

from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.io.paths import Paths


@runtime_checkable
class ImageEncoder(Protocol):
    """What a tower needs of an image encoder."""

    features: int
    pretrained: bool

    def __call__(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]: ...


class Normalised(nn.Module):
    """A backbone behind the normalisation of its pixels."""

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


def load_weights(backbone: nn.Module, paths: Paths, name: str) -> None:
    """Load the safetensors file ``name`` (below the weights folder, or absolute) into ``backbone``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: its tensors are not those of this backbone, or it is no safetensors file.
    """
    path = paths.weights_path(name)
    if path is None:
        raise FileNotFoundError(
            f"student.image.weights: {name!r} is not below {paths.weights}; set VLDD_WEIGHTS to its folder."
        )
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: expected safetensors weights of this encoder, but {error}.") from error
    given, own = ({name: value.shape for name, value in tensors.items()} for tensors in (state, backbone.state_dict()))
    different = (name for name in given.keys() | own.keys() if given.get(name) != own.get(name))
    wrong = sorted(name for name in different if not name.endswith("num_batches_tracked"))
    if wrong:
        raise ValueError(
            f"{path}: expected the weights of this encoder, but {len(wrong)} tensors differ ({wrong[0]}...)."
        )
    backbone.load_state_dict(state, strict=False)
