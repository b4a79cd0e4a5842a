"""Retrieval recall between images and captions, with ties counted against the query."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

CUTOFFS = (1, 5, 10)

_CHUNK_SCORES = 2**22
"""Scores held at once; with their copies and masks they then stay below about 100 MB."""


def retrieval_metrics(
    image_embeddings: Float[Tensor, "n d"],
    text_embeddings: Float[Tensor, "m d"],
    caption_image: Int64[Tensor, " m"],
) -> dict[str, float]:
    """Return IR1, IR5, IR10, TR1, TR5, TR10 and their mean, ``mean_recall``, in percent.

    IR: every caption looks for its image among all images. TR: every image looks for any of its captions among all
    captions; the others of its captions never count against it. The score is the inner product of the embeddings as
    they are given, so normalise them first for cosine. An item that scores the same as the true one stands before it.

    Raises:
        ValueError: an embedding is not finite, an image has no caption, or a caption points at no image.
    """
    _check(image_embeddings, text_embeddings, caption_image)
    caption_image = caption_image.to(image_embeddings.device)
    image = torch.arange(len(image_embeddings), device=image_embeddings.device)
    ranks = {
        "IR": _ranks(text_embeddings, image_embeddings, caption_image, image),
        "TR": _ranks(image_embeddings, text_embeddings, image, caption_image),
    }
    recalls = {f"{name}{k}": _recall(rank, k) for name, rank in ranks.items() for k in CUTOFFS}
    return recalls | {"mean_recall": sum(recalls.values()) / len(recalls)}


def _recall(ranks: Int64[Tensor, " q"], cutoff: int) -> float:
    """Return the percentage of queries with fewer than ``cutoff`` items before the true one."""
    return 100.0 * int((ranks < cutoff).sum()) / len(ranks)


def _ranks(
    queries: Float[Tensor, "q d"],
    items: Float[Tensor, "i d"],
    query_image: Int64[Tensor, " q"],
    item_image: Int64[Tensor, " i"],
) -> Int64[Tensor, " q"]:
    """Return, for each query, how many items of another image score at least as high as its best item.

    A query and an item belong together when their image is the same.
    """
    rows = max(1, _CHUNK_SCORES // len(items))
    transposed = items.double().T
    chunks = zip(queries.split(rows), query_image.split(rows), strict=True)
    return torch.cat([_chunk_ranks(chunk.double() @ transposed, image, item_image) for chunk, image in chunks])


def _chunk_ranks(
    scores: Float[Tensor, "q i"], query_image: Int64[Tensor, " q"], item_image: Int64[Tensor, " i"]
) -> Int64[Tensor, " q"]:
    """Return the ranks for one block of scores.

    Scores come in float64 and are compared in float32: equal embeddings then stay equal wherever the matrix product
    put them in its tiles, and no tie is broken by rounding.
    """
    scores = scores.float()
    belongs = query_image[:, None] == item_image[None, :]
    best = scores.masked_fill(~belongs, -torch.inf).amax(dim=1, keepdim=True)
    return ((scores >= best) & ~belongs).sum(dim=1)


def _check(images: Tensor, texts: Tensor, caption_image: Tensor) -> None:
    if not (torch.isfinite(images).all() and torch.isfinite(texts).all()):
        raise ValueError("Retrieval needs finite embeddings, but some are NaN or infinite.")
    if len(images) == 0:
        raise ValueError("Retrieval needs at least one image, but there is none.")
    if len(caption_image) and not 0 <= int(caption_image.min()) <= int(caption_image.max()) < len(images):
        raise ValueError(
            f"caption_image: expected indices from 0 to {len(images) - 1}, "
            f"found {int(caption_image.min())} to {int(caption_image.max())}."
        )
    without = int((torch.bincount(caption_image, minlength=len(images)) == 0).sum())
    if without:
        raise ValueError(f"Retrieval needs a caption for every image, but {without} of {len(images)} images have none.")
