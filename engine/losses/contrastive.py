"""Contrast between the two towers, with pairs that simply belong together or to a learned degree."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, kl_div, logsigmoid, normalize

LossName = Literal["info_nce", "bce", "wbce", "kl"]


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


def soft_info_nce(logits: Float[Tensor, "b b"], target: Float[Tensor, "b b"]) -> Float[Tensor, ""]:
    """Return the contrastive loss whose targets are similarities: the cross entropy of both directions, averaged.

    With the identity as ``target`` it is ``info_nce``. Targets are not normalised.

    References:
        arXiv 2406.03793, eNCE.
    """
    rows = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    columns = -(target * logits.log_softmax(dim=0)).sum(dim=0).mean()
    return 0.5 * (rows + columns)


def bce(logits: Float[Tensor, "b b"], target: Float[Tensor, "b b"]) -> Float[Tensor, ""]:
    """Return the mean binary cross entropy of every image with every text (arXiv 2406.03793)."""
    return binary_cross_entropy_with_logits(logits, target)


def wbce(logits: Float[Tensor, "b b"], target: Float[Tensor, "b b"]) -> Float[Tensor, ""]:
    """Return the binary cross entropy in which likely and unlikely pairs weigh the same.

    The mean over targets above 0.5 and the mean over the others, averaged; a side without any entry is left out. Which
    side an entry belongs to takes no gradient. Published code adds 1e-6 inside of each logarithm; here it is exact.

    References:
        arXiv 2406.03793, weighted BCE.
    """
    each = -target * logsigmoid(logits) - (1 - target) * logsigmoid(-logits)
    likely = target.detach() > 0.5
    sides = [each[mask].mean() for mask in (likely, ~likely) if mask.any()]
    return torch.stack(sides).mean()


KL_SHARPNESS = 10.0


def kl(logits: Float[Tensor, "b b"], target: Float[Tensor, "b b"]) -> Float[Tensor, ""]:
    """Return the divergence of both directions' softmax from that of the target times 10, averaged over rows and ways.

    Unlike ``soft_info_nce`` its targets are distributions whatever the similarity is, and it is bounded below.

    References:
        The KL loss among those of the code of arXiv 2406.03793.
    """
    ways = [
        kl_div(z.log_softmax(dim=1), (KL_SHARPNESS * s).log_softmax(dim=1), reduction="batchmean", log_target=True)
        for z, s in ((logits, target), (logits.T, target.T))
    ]
    return 0.5 * torch.stack(ways).sum()


SOFT: dict[LossName, Callable[[Tensor, Tensor], Tensor]] = {
    "info_nce": soft_info_nce,
    "bce": bce,
    "wbce": wbce,
    "kl": kl,
}


def contrastive_loss(
    images: Float[Tensor, "b d"],
    texts: Float[Tensor, "b d"],
    *,
    temperature: float,
    similarity: Float[Tensor, "b b"] | None = None,
    loss: LossName = "info_nce",
) -> Float[Tensor, ""]:
    """Return the loss named ``loss`` of embedded pairs; ``similarity`` None stands for the identity."""
    if similarity is None and loss == "info_nce":
        return info_nce(images, texts, temperature=temperature)
    logits = similarities(images, texts) / temperature
    target = torch.eye(len(logits), dtype=logits.dtype, device=logits.device) if similarity is None else similarity
    return SOFT[loss](logits, target)
