"""Contrastive losses of two towers, towards the identity or a learned similarity of images and texts."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, logsigmoid, normalize

LossName = Literal["info_nce", "bce", "wbce", "kl"]


def similarities(images: Float[Tensor, "n d"], texts: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Return the cosine similarity of every image embedding with every text embedding."""
    return normalize(images, dim=-1) @ normalize(texts, dim=-1).T


def info_nce(images: Float[Tensor, "b d"], texts: Float[Tensor, "b d"], *, temperature: float) -> Float[Tensor, ""]:
    """Return the bidirectional contrastive loss of ``b`` pairs: the mean of both directions' cross entropies.

    Row i of each side belongs together and every other row is a negative. Cosines are divided by the temperature.

    References:
        arXiv 2308.07545, section 3.2.
    """
    logits = similarities(images, texts) / temperature
    targets = torch.arange(len(logits), device=logits.device)
    return 0.5 * (cross_entropy(logits, targets) + cross_entropy(logits.T, targets))


def soft_info_nce(logits: Float[Tensor, "b b"], target: Float[Tensor, "b b"]) -> Float[Tensor, ""]:
    """Return the mean cross entropy of both directions towards similarities, which are not normalised.

    With the identity as ``target`` it is ``info_nce``.

    References:
        arXiv 2406.03793, eNCE.
    """
    rows = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    columns = -(target * logits.log_softmax(dim=0)).sum(dim=0).mean()
    return 0.5 * (rows + columns)


def wbce(logits: Float[Tensor, "b b"], target: Float[Tensor, "b b"]) -> Float[Tensor, ""]:
    """Return the binary cross entropy with equal weight for likely and unlikely pairs.

    The mean over targets above 0.5 and the mean over the others, averaged; a side without entries is left out. The
    assignment to a side has no gradient. Published code adds 1e-6 inside of each logarithm; here it is exact.

    References:
        arXiv 2406.03793, weighted BCE.
    """
    each = -target * logsigmoid(logits) - (1 - target) * logsigmoid(-logits)
    likely = (target.detach() > 0.5).to(each.dtype)
    sides = torch.stack([likely, 1 - likely])  # entries are weighted, not chosen, so that shapes depend on no number
    numbers = sides.sum(dim=(1, 2))
    means = (sides * each).sum(dim=(1, 2)) / numbers.clamp(min=1)
    return means.sum() / (numbers > 0).sum()


def kl(logits: Float[Tensor, "b b"], target: Float[Tensor, "b b"]) -> Float[Tensor, ""]:
    """Return the KL divergence of both directions' softmax from that of the target times 10, averaged over rows.

    Unlike in ``soft_info_nce``, targets are distributions for any similarity, and the loss is bounded below.

    References:
        The KL loss in the code of arXiv 2406.03793.
    """
    directions = []
    for z, s in ((logits, target), (logits.T, target.T)):
        student, wanted = z.log_softmax(dim=1), (10.0 * s).log_softmax(dim=1)
        # torch's own kl_div has no rule for a batch of students (torch.vmap).
        directions.append((wanted.exp() * (wanted - student)).sum() / len(z))
    return 0.5 * torch.stack(directions).sum()


SOFT: dict[LossName, Callable[[Tensor, Tensor], Tensor]] = {
    "info_nce": soft_info_nce,
    "bce": binary_cross_entropy_with_logits,  # the mean over every image with every text (arXiv 2406.03793)
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
    """Return the loss named ``loss`` of embedded pairs; ``similarity`` None is the identity."""
    if similarity is None and loss == "info_nce":
        return info_nce(images, texts, temperature=temperature)
    logits = similarities(images, texts) / temperature
    target = torch.eye(len(logits), dtype=logits.dtype, device=logits.device) if similarity is None else similarity
    return SOFT[loss](logits, target)
