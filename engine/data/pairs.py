"""Pairs of images and captions: a data set in memory, and its checks."""

from dataclasses import dataclass
from io import BytesIO
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor

from engine.data.cache import ShardedArray


class Size(NamedTuple):
    """The numbers of images and of pairs in a split."""

    images: int
    pairs: int


@dataclass(frozen=True, eq=False)
class PairDataset:
    """Images and the captions that describe them; one caption is one pair.

    ``images`` are RGB and usually a read-only memory map, so a batch is copied out by indexing. This decodes the photos
    that are not decoded yet. Every image has at least one caption.
    """

    images: UInt8[np.ndarray, "n 3 h w"] | ShardedArray
    image_names: tuple[str, ...]
    captions: tuple[str, ...]
    caption_image: Int64[np.ndarray, " m"]
    """Index of the image each caption belongs to."""

    def __post_init__(self) -> None:
        """Check that the four fields belong together.

        Raises:
            ValueError: lengths or indices disagree, or an image has no caption.
        """
        if len(self.images.shape) != 4 or self.images.shape[1] != 3 or self.images.dtype != np.uint8:
            raise ValueError(f"images: expected uint8 [n, 3, h, w], got {self.images.dtype} {self.images.shape}.")
        if len(self.images) != self.num_images:
            raise ValueError(f"image_names: {self.num_images} names for {len(self.images)} images.")
        if self.caption_image.shape != (len(self),) or self.caption_image.dtype != np.int64:
            given = f"{self.caption_image.dtype} {self.caption_image.shape}"
            raise ValueError(f"caption_image: expected int64 [{len(self)}], one index a caption, got {given}.")
        if np.any((self.caption_image < 0) | (self.caption_image >= self.num_images)):
            raise ValueError(f"caption_image: expected indices of {self.num_images} images, got others.")
        counts = np.bincount(self.caption_image, minlength=self.num_images)
        if np.any(counts == 0):
            name = self.image_names[int(np.argmin(counts))]
            raise ValueError(f"captions: image {name!r} has no caption, but every image needs at least one.")

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def num_images(self) -> int:
        """Number of images; at most the number of pairs."""
        return len(self.image_names)

    def stored_bytes(self, pairs: Int64[Tensor, " n"]) -> int:
        """Return the bytes of real pairs: each image once as a JPEG of quality 90, captions as UTF-8."""
        size = sum(len(self.captions[pair].encode()) for pair in pairs.tolist())
        for index in np.unique(self.caption_image[pairs.numpy()]):
            jpeg = BytesIO()
            image = Image.fromarray(np.ascontiguousarray(self.images[index].transpose(1, 2, 0)))
            image.save(jpeg, "JPEG", quality=90)
            size += len(jpeg.getvalue())
        return size


def one_an_image(caption_image: Int64[np.ndarray, " m"], order: Int64[Tensor, " k"]) -> Int64[Tensor, " i"]:
    """Return the first pair of each image in ``order``, in that order."""
    _, first = np.unique(caption_image[order.numpy()], return_index=True)
    return order[torch.from_numpy(np.sort(first))]
