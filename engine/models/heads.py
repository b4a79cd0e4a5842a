"""Heads map an encoder's features into the space that both towers share."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

HeadName = Literal["none", "linear", "mlp"]


class ResidualMLP(nn.Module):
    """Linear, then GELU and a second linear added to it, then layer norm.

    The projection head in the code of arXiv 2308.07545 without its dropout of 0.1, which draws from the global
    generator: steps of a student must be repeatable.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(features, width)
        self.mix = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b d"]:
        projected = self.project(features)
        return self.norm(projected + self.mix(nn.functional.gelu(projected)))


def build_head(name: HeadName, *, features: int, width: int) -> nn.Module:
    """Return a freshly initialised head from ``features`` to ``width`` dimensions.

    Raises:
        ValueError: ``none`` where the encoder's features are not as wide as the shared space.
    """
    if name == "linear":
        return nn.Linear(features, width)
    if name == "mlp":
        return ResidualMLP(features, width)
    if features != width:
        raise ValueError(f"head: 'none' needs an encoder of embed_dim = {width} features, but this one has {features}.")
    return nn.Identity()
