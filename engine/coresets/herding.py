"""Herding: pairs whose running mean follows the mean of all pairs."""

import torch
from jaxtyping import Int64
from torch import Tensor

from engine.coresets import Feature, JointFeatures, WarmupStatistics, best_index, check_budget


def select(
    warmup: WarmupStatistics, num_pairs: int, generator: torch.Generator, *, feature: Feature = "concat"
) -> Int64[Tensor, " p"]:
    """Choose greedily, as pick t (from 1), the pair that brings the sum of the picks nearest to t times the mean.

    Nearest is Euclidean. Equal pairs are ordered by ``generator``. The indices come in the order of the picks. A pick
    takes one product of all features with one vector: ||x - w||^2 is smallest where 2<x, w> - ||x||^2 is largest, w
    being the difference between t times the mean and the sum of the picks.

    References:
        Welling, "Herding dynamical weights to learn" (ICML 2009); for image-text pairs arXiv 2605.23482, S3.5.2.
    """
    check_budget(warmup, num_pairs)
    priority = torch.randperm(len(warmup), generator=generator)
    features = JointFeatures(warmup, feature)
    squared = features.squared_norms()
    mean = torch.zeros_like(features[:1][0], dtype=torch.float64)
    for chunk in features.chunks():
        mean += chunk.sum(dim=0, dtype=torch.float64) / len(warmup)
    free = torch.zeros_like(squared)
    missing, picks = mean.clone(), list[int]()
    for _ in range(num_pairs):
        pick = best_index(2 * features.dot(missing.float()) - squared + free, priority)
        free[pick] = -torch.inf
        missing += mean - features[torch.tensor([pick])][0]
        picks.append(pick)
    return torch.tensor(picks)
