"""Target similarities of the images and texts of a synthetic set: the identity, of low rank, or full."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engine.ranges import Count, Positive

Kind = Literal["identity", "low_rank", "full"]


@dataclass(frozen=True, kw_only=True)
class SimilarityOptions:
    """The kind of similarity that a method learns; ``rank`` and ``alpha`` belong to ``low_rank``.

    References:
        arXiv 2406.03793 and its public code; rank 5 to 40 and alpha 0.01 to 3 in its scripts.
    """

    kind: Kind = "low_rank"
    rank: Count = 10
    alpha: Positive = 1.0


class Identity(nn.Module):
    """Image i belongs to text i alone; nothing is learned."""

    def forward(self) -> None:
        """Return None, which losses take as the identity."""


class LowRank(nn.Module):
    """S = diag(a) + (alpha / rank) L R^T, initially the identity; n (1 + 2 rank) numbers."""

    scale: Tensor

    def __init__(self, left: Float[Tensor, "n r"], *, scale: float) -> None:
        super().__init__()
        self.diagonal = nn.Parameter(torch.ones(len(left)))
        self.left = nn.Parameter(left.detach().clone())
        self.right = nn.Parameter(torch.zeros_like(left))
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self) -> Float[Tensor, "n n"]:
        """Return the similarity of every image with every text."""
        return self.diagonal.diag() + self.scale * self.left @ self.right.T


class Full(nn.Module):
    """A matrix of which every entry is learned, initially the identity; n^2 numbers."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(size))

    def forward(self) -> Float[Tensor, "n n"]:
        """Return the similarity of every image with every text (the parameter itself)."""
        return self.matrix


def make_similarity(options: SimilarityOptions, size: int, generator: torch.Generator) -> nn.Module:
    """Return the initial similarity of ``size`` pairs, which is the identity in each kind; L is standard normal."""
    if options.kind == "identity":
        return Identity()
    if options.kind == "full":
        return Full(size)
    return LowRank(torch.randn(size, options.rank, generator=generator), scale=options.alpha / options.rank)


def similarity_of(tensors: dict[str, Tensor]) -> nn.Module:
    """Return the similarity whose ``state_dict`` is ``tensors``.

    Raises:
        ValueError: the tensors belong to no kind.
    """
    if not tensors:
        return Identity()
    if tensors.keys() == {"matrix"}:
        made: nn.Module = Full(len(tensors["matrix"]))
    elif tensors.keys() == {"diagonal", "left", "right", "scale"}:
        made = LowRank(tensors["left"], scale=1.0)
    else:
        raise ValueError(f"similarity: expected the tensors of a low_rank or a full one, found {sorted(tensors)}.")
    made.load_state_dict(tensors)
    return made
