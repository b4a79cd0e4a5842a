"""Random views of image batches."""

from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample

Augmentation = Literal["none", "flip", "crop_flip"]
"""Names of augmentations, for options."""

MIN_CROP_AREA = 0.5  # share of the image that a random crop keeps at least

Images = Float[Tensor, "b 3 h w"] | UInt8[Tensor, "b 3 h w"]


def augment(images: Images, name: str, generator: Generator) -> Images:
    """Return the images (``none``), or a random view of each, in their own type.

    ``flip`` mirrors each image left to right with probability one half, which makes captions that say "left of" wrong,
    so ``none`` is the default everywhere. ``generator`` lives on the CPU whatever the device of the images.

    Raises:
        ValueError: there is no augmentation called ``name``.
    """
    if name == "none":
        return images
    if name == "flip":
        mirrored = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
        return torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    if name == "crop_flip":
        return crop_flip(images, generator)
    raise ValueError(f"augmentation: expected 'none', 'flip' or 'crop_flip', got {name!r}.")


def crop_flip(images: Images, generator: Generator) -> Images:
    """Crop a square of 50 to 100 % of the area of each image, enlarge it to the image's size, mirror half of them.

    Enlarged bilinearly; uint8 images are rounded.
    """
    count = len(images)
    area = MIN_CROP_AREA + (1 - MIN_CROP_AREA) * torch.rand(count, generator=generator)
    side = area.sqrt()
    shift = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - side)[:, None]
    sign = 1 - 2 * (torch.rand(count, generator=generator) < 0.5).float()
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = side * sign, side, shift
    pixels = images if images.is_floating_point() else images.float()
    grid = affine_grid(theta.to(pixels), list(images.shape), align_corners=False)
    views = grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return views if images.is_floating_point() else views.round().to(torch.uint8)
