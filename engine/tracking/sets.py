"""A synthetic set as people look at it: its images before and after, and the real captions nearest to its texts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from engine.files import atomic_path
from engine.synthetic.set import SyntheticSet
from engine.tracking.pictures import before_after


def nearest_captions(
    texts: Float[Tensor, "n d"], embeddings: Float[np.ndarray, "m d"], *, chunk: int = 65536
) -> Int64[Tensor, " n"]:
    """Return, for each text embedding, the index of the real caption whose embedding has the largest cosine."""
    queries = normalize(texts.detach().cpu(), dim=-1)
    best = torch.full((len(queries),), -2.0)
    index = torch.zeros(len(queries), dtype=torch.int64)
    for first in range(0, len(embeddings), chunk):
        rows = normalize(torch.from_numpy(np.array(embeddings[first : first + chunk])), dim=-1)
        value, where = (queries @ rows.T).max(dim=1)
        index = torch.where(value > best, where + first, index)
        best = torch.maximum(best, value)
    return index


def write_set_pictures(
    folder: Path,
    before: SyntheticSet,
    after: SyntheticSet,
    *,
    captions: Sequence[str],
    embeddings: Float[np.ndarray, "m d"],
) -> None:
    """Write ``before_after.png``, and ``captions.tsv`` with the captions nearest to each text at the start and now."""
    first, now = (
        [captions[index] for index in nearest_captions(synthetic.texts, embeddings).tolist()]
        for synthetic in (before, after)
    )
    before_after(folder / "before_after.png", before.images.detach(), after.images.detach(), first, now)
    lines = [f"{pair}\t{a}\t{b}" for pair, (a, b) in enumerate(zip(first, now, strict=True))]
    with atomic_path(folder / "captions.tsv") as temporary:
        temporary.write_text("\n".join(["pair\tnearest at the start\tnearest now", *lines]) + "\n", encoding="utf-8")
