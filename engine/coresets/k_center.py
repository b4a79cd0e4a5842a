"""K-center: pairs such that no pair is far from the nearest chosen one."""

import torch
from jaxtyping import Int64
from torch import Tensor

from engine.coresets import Feature, JointFeatures, WarmupStatistics, best_index, check_budget


def select(
    warmup: WarmupStatistics, num_pairs: int, generator: torch.Generator, *, feature: Feature = "sum"
) -> Int64[Tensor, " p"]:
    """Start from a random pair, then repeatedly choose the pair that is farthest from its nearest chosen one.

    Distances are Euclidean; equal ones are ordered by ``generator``. The indices come in the order of the picks. A pick
    takes one product of all features with one vector; the least distance of every pair is kept.

    References:
        Sener and Savarese, arXiv 1708.00489, algorithm 1; for image-text pairs arXiv 2605.23482, S3.5.2.
    """
    check_budget(warmup, num_pairs)
    picks = [int(torch.randint(len(warmup), (), generator=generator))]
    priority = torch.randperm(len(warmup), generator=generator)
    features = JointFeatures(warmup, feature)
    squared = features.squared_norms()
    nearest = torch.full_like(squared, torch.inf)
    while len(picks) < num_pairs:
        center = features[torch.tensor(picks[-1:])][0]
        distance = squared + squared[picks[-1]] - 2 * features.dot(center)
        nearest = torch.minimum(nearest, distance.clamp(min=0))
        nearest[picks] = -torch.inf
        picks.append(best_index(nearest, priority))
    return torch.tensor(picks)
