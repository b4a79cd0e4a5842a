"""ClipCov: pairs that keep the cross-covariance of images and captions."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from engine.coresets import CHUNK, JointFeatures, WarmupStatistics, best_index, check_budget


def select(warmup: WarmupStatistics, num_pairs: int, generator: torch.Generator) -> Int64[Tensor, " p"]:
    """Choose greedily, as pick t (from 1), the pair that brings the sum of the picks nearest to t times the covariance.

    A pair counts by the outer product of its centred embeddings, whose mean over all pairs is the cross-covariance;
    nearest is in the Frobenius norm. Equal pairs are ordered by ``generator``. The indices come in the order of the
    picks. A pick takes one product of all image features with a matrix; no outer product of all pairs is made.

    Raises:
        ValueError: ``num_pairs`` is below 1 or above the number of pairs.

    References:
        arXiv 2403.12267, whose theorem is about the cross-covariance. It chooses within latent classes, which our data
        do not name, and adds terms that balance them; these are left out.
    """
    check_budget(warmup, num_pairs)
    priority = torch.randperm(len(warmup), generator=generator)
    JointFeatures(warmup, "concat")  # refuses features that are not finite
    images, texts, owner = _centred(warmup)
    squared = images.square().sum(dim=1)[owner] * texts.square().sum(dim=1)
    covariance = sum(images[owner[part]].T @ texts[part] / len(owner) for part in torch.arange(len(owner)).split(CHUNK))
    assert isinstance(covariance, Tensor)
    free, missing, picks = torch.zeros_like(squared), covariance.clone(), list[int]()
    for _ in range(num_pairs):
        products = _products(images @ missing, texts, owner)
        pick = best_index(2 * products - squared + free, priority)
        free[pick] = -torch.inf
        missing += covariance - torch.outer(images[owner[pick]], texts[pick])
        picks.append(pick)
    return torch.tensor(picks)


def _centred(warmup: WarmupStatistics) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"], Int64[Tensor, " m"]]:
    """Return features in float32 without their means over all pairs, and the image of each caption."""
    owner = warmup.caption_image
    images, texts = warmup.image_features.float(), warmup.text_features.float()
    weights = torch.bincount(owner, minlength=len(images)) / len(owner)
    return images - weights @ images, texts - texts.mean(dim=0), owner


def _products(
    projected: Float[Tensor, "n d"], texts: Float[Tensor, "m d"], owner: Int64[Tensor, " m"]
) -> Float[Tensor, " m"]:
    """Return the inner product of every caption with the projection of its image."""
    products = texts.new_empty(len(texts))
    for out, part, rows in zip(products.split(CHUNK), owner.split(CHUNK), texts.split(CHUNK), strict=True):
        out.copy_((projected[part] * rows).sum(dim=1))
    return products
