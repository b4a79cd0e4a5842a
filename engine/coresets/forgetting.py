"""Forgetting: pairs ranked by how often a student unlearns them."""

from typing import Literal, get_args

import torch
from jaxtyping import Int64
from torch import Tensor

from engine.coresets import WarmupStatistics, check_budget

Direction = Literal["ascending", "descending"]


def select(
    warmup: WarmupStatistics,
    num_pairs: int,
    generator: torch.Generator,
    *,
    direction: Direction = "ascending",
    penalty: int = 10_000,
) -> Int64[Tensor, " p"]:
    """Choose the pairs that are forgotten least (``ascending``) or most often (``descending``).

    ``penalty`` is added to the count of a pair that was seen and never learned; no value is published, and the default
    lies above any count, which puts these pairs last, or first. Pairs that were never in a batch have no count: in
    either direction they are chosen, at random, only where the seen pairs are fewer than ``num_pairs``. Equal counts
    are ordered by ``generator``.

    References:
        Toneva et al., arXiv 1812.05159, who keep the most forgotten; arXiv 2605.23482, S3.5.2, keeps the least
        forgotten image-text pairs and is the default here. Neither says what to do about pairs that were never seen.
    """
    check_budget(warmup, num_pairs)
    if direction not in get_args(Direction):
        raise ValueError(f"direction: expected one of {', '.join(get_args(Direction))}, found {direction!r}.")
    count = warmup.forgetting + penalty * warmup.never_learned
    order = torch.randperm(len(warmup), generator=generator)
    order = order[count[order].argsort(stable=True, descending=direction == "descending")]
    return order[warmup.never_seen[order].long().argsort(stable=True)][:num_pairs]
