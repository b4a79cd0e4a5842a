"""Contrast between the two towers."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize


def similarities(images: Float[Tensor, "n d"], texts: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Return the cosine of every image embedding with every text embedding."""
    return normalize(images, dim=-1) @ normalize(texts, dim=-1).T


def info_nce(images: Float[Tensor, "b d"], texts: Float[Tensor, "b d"], *, temperature: float) -> Float[Tensor, ""]:
    """Return the bidirectional contrastive loss of ``b`` pairs: the mean of both directions' cross entropies.

    Row i of each side belongs together and every other row of the batch is a negative. The scale of the cosines is
    1 / temperature for experts, students and evaluation alike.

    References:
        arXiv 2308.07545, section 3.2.
    """
    logits = similarities(images, texts) / temperature
    targets = torch.arange(len(logits), device=logits.device)
    return 0.5 * (cross_entropy(logits, targets) + cross_entropy(logits.T, targets))
