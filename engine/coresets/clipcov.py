"""ClipCov: pairs that keep the cross-covariance of images and captions."""

import torch
from jaxtyping import Int64
from torch import Tensor

from engine.coresets import CHUNK, JointFeatures, WarmupStatistics, best_index, check_budget


def select(warmup: WarmupStatistics, num_pairs: int, generator: torch.Generator) -> Int64[Tensor, " p"]:
    """Choose greedily, as pick t (from 1), the pair that brings the sum of the picks nearest to t times the covariance.

    A pair counts by the outer product of its centred embeddings, whose mean over all pairs is the cross-covariance;
    nearest is in the Frobenius norm. Equal pairs are ordered by ``generator``. The indices come in the order of the
    picks. A pick takes one product of all image features with a matrix; no outer product of all pairs is made.

    References:
        arXiv 2403.12267, whose theorem is about the cross-covariance. It chooses within latent classes, which our data
        do not name, and adds terms that balance them; these are left out.
    """
    check_budget(warmup, num_pairs)
    priority = torch.randperm(len(warmup), generator=generator)
    JointFeatures(warmup, "concat")  # refuses features that are not finite
    owner, images, texts = warmup.caption_image, warmup.image_features.float(), warmup.text_features.float()
    weights = torch.bincount(owner, minlength=len(images)) / len(owner)
    images, texts = images - weights @ images, texts - texts.mean(dim=0)  # without their means over all pairs
    squared = images.square().sum(dim=1)[owner] * texts.square().sum(dim=1)
    covariance = sum(images[owner[part]].T @ texts[part] / len(owner) for part in torch.arange(len(owner)).split(CHUNK))
    assert isinstance(covariance, Tensor)
    free, missing, picks = torch.zeros_like(squared), covariance.clone(), list[int]()
    products = texts.new_empty(len(texts))
    for _ in range(num_pairs):
        projected = images @ missing
        for out, part, rows in zip(products.split(CHUNK), owner.split(CHUNK), texts.split(CHUNK), strict=True):
            out.copy_((projected[part] * rows).sum(dim=1))
        pick = best_index(2 * products - squared + free, priority)
        free[pick] = -torch.inf
        missing += covariance - torch.outer(images[owner[pick]], texts[pick])
        picks.append(pick)
    return torch.tensor(picks)
