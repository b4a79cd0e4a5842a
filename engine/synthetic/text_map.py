"""A linear map from the space of one text encoder to that of another, by which learned texts are read anew."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

RIDGE = 1.0
"""Share of the mean squared embedding that is added to the diagonal of the regression; LOG.md has what others give."""


def map_texts(
    texts: Float[Tensor, "n a"],
    source: Float[np.ndarray, "m a"],
    target: Float[np.ndarray, "m b"],
    *,
    chunk: int = 8192,
) -> Float[Tensor, "n b"]:
    """Return learned texts in the space of ``target``, where row i of both sides is the same real caption.

    The map is the ridge regression of one encoder's embeddings on the other's. Learned texts lie far from those of any
    caption (their norm is four times as large on Flickr8k), so that the nearest caption says little about them, while
    a linear map keeps what directions mean. The ridge leaves out directions in which captions hardly differ. Sums are over ``chunk`` rows at a time and in float64.
    """
    width = source.shape[1]
    gram = torch.zeros(width, width, dtype=torch.float64)
    products = torch.zeros(width, target.shape[1], dtype=torch.float64)
    for first in range(0, len(source), chunk):
        a, b = (torch.from_numpy(np.array(rows[first : first + chunk])).double() for rows in (source, target))
        gram += a.T @ a
        products += a.T @ b
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(width, dtype=torch.float64)
    solved = torch.linalg.solve(gram + ridge, products)
    return (texts.detach().cpu().double() @ solved).float()
