"""Prototypes: the real pair nearest to each centre of a k-means of all pairs."""

import torch
from jaxtyping import Int64
from torch import Tensor

from engine.coresets import CHUNK, Feature, JointFeatures, WarmupStatistics, check_budget
from engine.synthetic.initialisation import central_pairs


def select(
    warmup: WarmupStatistics, num_pairs: int, generator: torch.Generator, *, feature: Feature = "concat"
) -> Int64[Tensor, " p"]:
    """Cluster the joint features into ``num_pairs`` and choose the nearest pair to each centre, of distinct images.

    Equal pairs are ordered by ``generator``, which also starts the k-means. Images repeat only where there are fewer of
    them than pairs. The indices come in the order of the centres.

    References:
        The real photos of the prototypes of arXiv 2602.19756, which generates an image for each; here one k-means of
        both embeddings takes the place of one a modality and their assignment.
    """
    check_budget(warmup, num_pairs)
    order = torch.randperm(len(warmup), generator=generator)
    features = JointFeatures(warmup, feature)
    rows = (features[part] for part in order.split(CHUNK))
    return order[central_pairs(rows, warmup.caption_image[order].numpy(), num_pairs, generator)]
