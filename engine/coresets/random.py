"""Random pairs: the baseline every other coreset must beat."""

import torch
from jaxtyping import Int64
from torch import Tensor

from engine.coresets import WarmupStatistics, check_budget


def select(warmup: WarmupStatistics, num_pairs: int, generator: torch.Generator) -> Int64[Tensor, " p"]:
    """Draw ``num_pairs`` distinct pairs with equal probability; only the number of pairs is read."""
    check_budget(warmup, num_pairs)
    return torch.randperm(len(warmup), generator=generator)[:num_pairs]
