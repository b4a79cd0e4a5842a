"""The real captions nearest to synthetic texts, by which those are read."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor
from torch.nn.functional import normalize

from engine.models.tokens import mask_of, pool

Prepare = Callable[[Tensor], Tensor]


def nearest_captions(
    texts: Float[Tensor, "n *d"], real: Shaped[np.ndarray, "m f"], *, prepare: Prepare | None = None, chunk: int = 1024
) -> Int64[Tensor, " n"]:
    """Return, for each prepared text, the index of the real caption whose embedding has the largest cosine.

    ``prepare`` turns rows of ``real`` into such texts (None: they are such texts); it is called on ``chunk`` rows at a
    time, which bounds the memory. Texts of a trained encoder are compared by the means of their token embeddings,
    because the encoder's own output changes while it is trained.
    """
    queries = normalize(one_vector_each(texts.detach().cpu()), dim=-1)
    best = torch.full((len(queries),), -2.0)
    index = torch.zeros(len(queries), dtype=torch.int64)
    for first in range(0, len(real), chunk):
        rows = torch.from_numpy(np.array(real[first : first + chunk]))
        rows = normalize(one_vector_each(rows if prepare is None else prepare(rows)), dim=-1)
        value, where = (queries @ rows.T).max(dim=1)
        index = torch.where(value > best, where + first, index)
        best = torch.maximum(best, value)
    return index


def words_of(
    texts: Float[Tensor, "n *d"],
    captions: Sequence[str],
    real: Shaped[np.ndarray, "m f"],
    *,
    prepare: Prepare | None = None,
) -> list[str]:
    """Return the caption nearest to each text; ``real`` are the embeddings of ``captions`` before ``prepare``."""
    return [captions[index] for index in nearest_captions(texts, real, prepare=prepare).tolist()]


def one_vector_each(texts: Float[Tensor, "n *d"]) -> Float[Tensor, "n e"]:
    """Return prepared texts as vectors: the embeddings of a frozen encoder, or the means of token embeddings."""
    return texts if texts.ndim == 2 else pool(texts[..., :-1], mask_of(texts), pooling="mean")
