"""What a coreset is chosen from, and what the choices share."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.io.files import atomic_path
from engine.io.storage import Location, as_file

FORMAT_VERSION = 1

Feature = Literal["concat", "sum"]
"""How the two embeddings of a pair become one vector: side by side, or added."""


@dataclass(frozen=True)
class WarmupStatistics:
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


def check_budget(warmup: WarmupStatistics, num_pairs: int) -> None:
    """Refuse a budget that the pairs cannot fill.

    Raises:
        ValueError: ``num_pairs`` is below 1 or above the number of pairs.
    """
    if not 1 <= num_pairs <= len(warmup):
        raise ValueError(f"num_pairs: expected 1 to {len(warmup)}, the number of real pairs, found {num_pairs}.")


def joint_features(warmup: WarmupStatistics, feature: Feature) -> Float[Tensor, "m k"]:
    """Return one vector a pair, a copy; neither ``concat`` nor ``sum`` is normalised again.

    Raises:
        ValueError: ``feature`` is neither of the two.
    """
    if feature == "concat":
        return torch.cat([warmup.image_features, warmup.text_features], dim=1)
    if feature == "sum":
        return warmup.image_features + warmup.text_features
    raise ValueError(f"feature: expected one of {', '.join(get_args(Feature))}, found {feature!r}.")


def best_index(scores: Float[Tensor, " m"], priority: Int64[Tensor, " m"]) -> int:
    """Return the index of the highest score; of equal ones, that of the lowest priority."""
    tied = (scores == scores.max()).nonzero().squeeze(1)
    return int(tied[priority[tied].argmin()])


def tie_priority(warmup: WarmupStatistics, generator: torch.Generator) -> Int64[Tensor, " m"]:
    """Draw the order in which equal pairs are preferred, on the device of the features."""
    return torch.randperm(len(warmup), generator=generator).to(warmup.image_features.device)


def save_warmup(path: Location, warmup: WarmupStatistics) -> None:
    """Write the evidence as one safetensors file, atomically."""
    with atomic_path(path) as temporary:
        tensors = {entry.name: getattr(warmup, entry.name).contiguous() for entry in fields(WarmupStatistics)}
        save_file(tensors, temporary, metadata={"format_version": str(FORMAT_VERSION)})


def load_warmup(path: Location) -> WarmupStatistics:
    """Read what ``save_evidence`` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or of another kind.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no evidence for coresets here; the full-data student leaves it.")
    try:
        with as_file(path) as local:
            with safe_open(local, "pt") as file:
                version = (file.metadata() or {}).get("format_version")
            warmup = WarmupStatistics(**load_file(local))
    except (SafetensorError, TypeError) as error:
        raise ValueError(f"{path}: expected the evidence of a warm-up, but {error}.") from error
    if version != str(FORMAT_VERSION):
        raise ValueError(f"{path}: expected format_version {FORMAT_VERSION}, but the file has {version!r}.")
    return warmup
