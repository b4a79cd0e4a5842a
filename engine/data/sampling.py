"""Drawing real pairs: distinct images, each with one of its captions."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class CaptionIndex:
    """The captions of every image: those of image i are ``pairs[first[i] : first[i] + count[i]]``."""

    pairs: Int64[Tensor, " m"]
    first: Int64[Tensor, " n"]
    count: Int64[Tensor, " n"]


def caption_index(caption_image: Int64[np.ndarray, " m"]) -> CaptionIndex:
    """Sort captions by their image; every image from 0 to the last must have a caption, as in a ``PairDataset``."""
    owners = torch.from_numpy(np.array(caption_image))
    count = torch.bincount(owners)
    return CaptionIndex(owners.argsort(stable=True), count.cumsum(0) - count, count)


def draw_pairs(captions: CaptionIndex, count: int, generator: torch.Generator) -> Int64[Tensor, " b"]:
    """Draw ``count`` distinct images and one caption of each, uniformly; all images where there are fewer.

    No image comes twice, because two captions of one image would be taken for negatives of each other.
    """
    images = torch.randperm(len(captions.count), generator=generator)[:count]
    chosen = torch.rand(len(images), generator=generator, dtype=torch.float64) * captions.count[images]
    return captions.pairs[captions.first[images] + chosen.long()]
