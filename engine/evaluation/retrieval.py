"""Retrieval recall between images and captions, with ties counted against the query."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.linalg import vector_norm

CUTOFFS = (1, 5, 10)
TIE_MARGIN = 1e-6
"""Difference below which two float32 scores of unit vectors may be one score, rounded in two places of a product."""
CHUNK_SCORES = 2**22
"""Scores held at once; with the masks made of them they stay below about 100 MB."""


def retrieval_metrics(
    image_embeddings: Float[Tensor, "n d"], text_embeddings: Float[Tensor, "m d"], caption_image: Int64[Tensor, " m"]
) -> dict[str, float]:
    """Return IR1, IR5, IR10, TR1, TR5, TR10 and their mean, ``mean_recall``, in percent, of ``retrieval_ranks``."""
    return recalls_of(retrieval_ranks(image_embeddings, text_embeddings, caption_image))


def recalls_of(ranks: dict[str, Int64[Tensor, " q"]]) -> dict[str, float]:
    """Return the metrics of ``retrieval_metrics`` from the ranks of both directions."""
    sides = [(side, ranks[side], k) for side in ("IR", "TR") for k in CUTOFFS]
    recalls = {f"{side}{k}": 100.0 * int((found < k).sum()) / len(found) for side, found, k in sides}
    return recalls | {"mean_recall": sum(recalls.values()) / len(recalls)}


def retrieval_ranks(
    image_embeddings: Float[Tensor, "n d"], text_embeddings: Float[Tensor, "m d"], caption_image: Int64[Tensor, " m"]
) -> dict[str, Int64[Tensor, " q"]]:
    """Return the rank of every query, 0 the first: ``IR`` of the m captions, ``TR`` of the n images.

    IR: every caption searches all images for its own. TR: every image searches all captions for any of its own; its
    other captions never count against it. The score is the inner product of the embeddings as given, so normalise them
    first for cosine. An item that scores the same as the true one ranks before it; scores are the same when they are
    equal in float32 after a product in float64. A rank is exact as far as it is below a cutoff or not.

    One float32 product for both directions bounds every rank. Only the queries whose bounds lie on two sides of a
    cutoff are ranked again in float64.

    Raises:
        ValueError: an embedding is not finite, an image has no caption, or a caption points at no image.
    """
    _check(image_embeddings, text_embeddings, caption_image)
    caption_image = caption_image.to(image_embeddings.device)
    image = torch.arange(len(image_embeddings), device=image_embeddings.device)
    bounds = dict(zip(("TR", "IR"), _rank_bounds(image_embeddings, text_embeddings, caption_image), strict=True))
    sides = {
        "IR": (text_embeddings, image_embeddings, caption_image, image),
        "TR": (image_embeddings, text_embeddings, image, caption_image),
    }
    for name, (queries, items, query_image, item_image) in sides.items():
        least, most = bounds[name]
        unsure = torch.stack([(least < k) & (most >= k) for k in CUTOFFS]).any(dim=0)
        least[unsure] = exact_ranks(queries[unsure], items, query_image[unsure], item_image)
    return {name: least for name, (least, _) in bounds.items()}


def _rank_bounds(
    images: Float[Tensor, "n d"], texts: Float[Tensor, "m d"], caption_image: Int64[Tensor, " m"]
) -> tuple[Int64[Tensor, "2 n"], Int64[Tensor, "2 m"]]:
    """Return the least and the greatest possible rank of every image and of every caption, from float32 scores."""
    longest = [vector_norm(side, dim=1, dtype=torch.float64).amax().clamp(min=1e-300) for side in (images, texts)]
    images, texts = ((side.double() / norm).float() for side, norm in zip((images, texts), longest, strict=True))
    own = (images[caption_image] * texts).sum(dim=1)
    best = own.new_full((len(images),), -torch.inf).scatter_reduce(0, caption_image, own, "amax")
    image_ranks, text_ranks = (caption_image.new_zeros(2, len(side)) for side in (images, texts))
    rows = max(1, CHUNK_SCORES // len(texts))
    for first in range(0, len(images), rows):
        chunk = slice(first, first + rows)
        scores = images[chunk] @ texts.T
        inside = ((caption_image >= first) & (caption_image < first + rows)).nonzero().squeeze(1)
        scores[caption_image[inside] - first, inside] = -torch.inf
        for bound, margin in enumerate((TIE_MARGIN, -TIE_MARGIN)):
            image_ranks[bound, chunk] = (scores >= best[chunk, None] + margin).sum(dim=1, dtype=torch.int32)
            text_ranks[bound] += (scores >= own + margin).sum(dim=0, dtype=torch.int32)
    return image_ranks, text_ranks


def exact_ranks(
    queries: Float[Tensor, "q d"],
    items: Float[Tensor, "i d"],
    query_image: Int64[Tensor, " q"],
    item_image: Int64[Tensor, " i"],
) -> Int64[Tensor, " q"]:
    """Return, for each query, how many items of another image score at least as high as its best own item.

    Query and item belong together when their image is the same. The product is taken in float64 and compared in
    float32: equal embeddings then score the same wherever the product puts them in its tiles.
    """
    rows, ranks, transposed = max(1, CHUNK_SCORES // len(items)), [], items.double().T
    for chunk, image in zip(queries.split(rows), query_image.split(rows), strict=True):
        scores = (chunk.double() @ transposed).float()
        belongs = image[:, None] == item_image[None, :]
        best = scores.masked_fill(~belongs, -torch.inf).amax(dim=1, keepdim=True)
        ranks.append(((scores >= best) & ~belongs).sum(dim=1))
    return torch.cat(ranks)


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
