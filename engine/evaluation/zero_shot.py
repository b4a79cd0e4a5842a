"""Zero-shot classification: an image is of the class whose prompts are nearest to it in the joint space."""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from engine.models.two_tower import TwoTower
from engine.tensors import Params

CUTOFFS = (1, 5)


@torch.no_grad()
def zero_shot(
    student: TwoTower,
    params: Params,
    images: Iterable[Tensor],
    prompts: Float[Tensor, "p ..."],
    *,
    prompt_class: Int64[Tensor, " p"],
    belongs: Bool[Tensor, "i c"],
) -> dict[str, float]:
    """Return the percent of images with a class of theirs among the first (``top1``) and the first five (``top5``).

    ``images``, in chunks, and ``prompts`` are prepared inputs of the towers. A class is the mean of its
    prompts' embeddings, each of length 1, and scores by its cosine with the image. Of equal scores, those of other
    classes come first. ``top5`` is left out where there are five classes or fewer. All are zero if the student has
    diverged.
    """
    seen = torch.cat([student.image.apply(params, part) for part in images]).double()
    read = normalize(torch.cat([student.text.apply(params, part) for part in prompts.split(256)]).double(), dim=-1)
    sums = one_hot(prompt_class, belongs.shape[1]).to(read).T @ read  # repeats bitwise on a GPU, unlike index_add
    scores = (normalize(seen, dim=-1) @ normalize(sums, dim=-1).T).float()
    best = scores.masked_fill(~belongs, -torch.inf).amax(dim=1, keepdim=True)
    ranks = ((scores >= best) & ~belongs).sum(dim=1)
    finite = bool(scores.isfinite().all())
    return {
        f"top{k}": 100 * float((ranks < k).double().mean()) if finite else 0.0
        for k in CUTOFFS
        if k == 1 or k < belongs.shape[1]
    }
