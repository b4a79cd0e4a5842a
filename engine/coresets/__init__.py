"""What a coreset is chosen from, and what the choices share."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Feature = Literal["concat", "sum"]
"""How the two embeddings of a pair become one vector: side by side, or added."""


@dataclass(frozen=True)
class Evidence:
    """What a warm-up student says about each of ``m`` real pairs.

    ``forgetting`` counts how often a pair went from correct (in-batch rank 1 in both directions) to incorrect between
    two epochs; ``never_learned`` marks the pairs that were never correct, whose count is 0.

    Raises:
        ValueError: a feature is NaN or infinite, as after a warm-up that diverged.
    """

    image_features: Float[Tensor, "m d"]  # L2-normalised; the pair's image, so an image occurs once a caption
    text_features: Float[Tensor, "m d"]  # L2-normalised
    forgetting: Int64[Tensor, " m"]
    never_learned: Bool[Tensor, " m"]

    def __post_init__(self) -> None:
        lengths = {len(getattr(self, name)) for name in self.__dataclass_fields__}
        assert len(lengths) == 1, f"evidence of different lengths: {sorted(lengths)}"
        if not (torch.isfinite(self.image_features).all() and torch.isfinite(self.text_features).all()):
            raise ValueError("Coresets need finite features, but some are NaN or infinite: did the warm-up diverge?")

    def __len__(self) -> int:
        return len(self.forgetting)


def check_budget(evidence: Evidence, num_pairs: int) -> None:
    """Refuse a budget that the pairs cannot fill.

    Raises:
        ValueError: ``num_pairs`` is below 1 or above the number of pairs.
    """
    if not 1 <= num_pairs <= len(evidence):
        raise ValueError(f"num_pairs: expected 1 to {len(evidence)}, the number of real pairs, found {num_pairs}.")


def joint_features(evidence: Evidence, feature: Feature) -> Float[Tensor, "m k"]:
    """Return one vector a pair, a copy; neither ``concat`` nor ``sum`` is normalised again.

    Raises:
        ValueError: ``feature`` is neither of the two.
    """
    if feature == "concat":
        return torch.cat([evidence.image_features, evidence.text_features], dim=1)
    if feature == "sum":
        return evidence.image_features + evidence.text_features
    raise ValueError(f"feature: expected one of {', '.join(get_args(Feature))}, found {feature!r}.")


def best_index(scores: Float[Tensor, " m"], priority: Int64[Tensor, " m"]) -> int:
    """Return the index of the highest score; of equal ones, that of the lowest priority."""
    tied = (scores == scores.max()).nonzero().squeeze(1)
    return int(tied[priority[tied].argmin()])


def tie_priority(evidence: Evidence, generator: torch.Generator) -> Int64[Tensor, " m"]:
    """Draw the order in which equal pairs are preferred, on the device of the features."""
    return torch.randperm(len(evidence), generator=generator).to(evidence.image_features.device)
