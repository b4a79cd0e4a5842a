"""K-center: pairs such that no pair is far from the nearest chosen one."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from engine.coresets import Feature, WarmupStatistics, best_index, check_budget, joint_features, tie_priority


def select(
    warmup: WarmupStatistics, num_pairs: int, generator: torch.Generator, *, feature: Feature = "sum"
) -> Int64[Tensor, " p"]:
    """Start from a random pair, then choose again and again the pair farthest from its nearest chosen one.

    Distances are Euclidean; equal ones are told apart by ``generator``. The indices come in the order of the picks.

    Raises:
        ValueError: ``num_pairs`` is below 1 or above the number of pairs, or ``feature`` is unknown.

    References:
        Sener and Savarese, arXiv 1708.00489, algorithm 1; for image-text pairs arXiv 2605.23482, S3.5.2.
    """
    check_budget(warmup, num_pairs)
    first = int(torch.randint(len(warmup), (), generator=generator))
    features = joint_features(warmup, feature)
    return torch.tensor(_farthest_first(features, first, num_pairs, tie_priority(warmup, generator)))


def _farthest_first(
    features: Float[Tensor, "m k"], first: int, num_pairs: int, priority: Int64[Tensor, " m"]
) -> list[int]:
    """Return ``first`` and the picks after it; one matrix-vector product each, keeping the running least distance."""
    squared = features.square().sum(dim=1)
    nearest = torch.full_like(squared, torch.inf)
    picks = [first]
    while len(picks) < num_pairs:
        center = picks[-1]
        distance = squared + squared[center] - 2 * (features @ features[center])
        nearest = torch.minimum(nearest, distance.clamp(min=0))
        nearest[picks] = -torch.inf
        picks.append(best_index(nearest, priority))
    return picks
