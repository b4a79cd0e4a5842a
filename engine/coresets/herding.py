"""Herding: pairs whose running mean follows the mean of all pairs."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from engine.coresets import Feature, WarmupStatistics, best_index, check_budget, joint_features, tie_priority


def select(
    warmup: WarmupStatistics, num_pairs: int, generator: torch.Generator, *, feature: Feature = "concat"
) -> Int64[Tensor, " p"]:
    """Choose greedily, as pick t (from 1), the pair that brings the sum of the picks nearest to t times the mean.

    Nearest is Euclidean. Equal pairs are told apart by ``generator``. The indices come in the order of the picks.

    Raises:
        ValueError: ``num_pairs`` is below 1 or above the number of pairs, or ``feature`` is unknown.

    References:
        Welling, "Herding dynamical weights to learn" (ICML 2009); for image-text pairs arXiv 2605.23482, S3.5.2.
    """
    check_budget(warmup, num_pairs)
    features = joint_features(warmup, feature)
    return torch.tensor(_picks(features, num_pairs, tie_priority(warmup, generator)))


def _picks(features: Float[Tensor, "m k"], num_pairs: int, priority: Int64[Tensor, " m"]) -> list[int]:
    """Return the greedy picks; one matrix-vector product each.

    ||x - w||^2 is smallest where 2<x, w> - ||x||^2 is largest, w being what is missing from the sum of the picks.
    """
    mean = features.mean(dim=0, dtype=torch.float64)
    squared = features.square().sum(dim=1)
    free = torch.zeros_like(squared)
    missing, picks = mean.clone(), list[int]()
    for _ in range(num_pairs):
        pick = best_index(2 * (features @ missing.to(features.dtype)) - squared + free, priority)
        free[pick] = -torch.inf
        missing += mean - features[pick]
        picks.append(pick)
    return picks
