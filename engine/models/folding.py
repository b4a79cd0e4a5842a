"""Batch norms of a frozen convolutional encoder, folded into the convolutions before them."""

from copy import deepcopy
from itertools import pairwise

import torch
from torch import nn

TOLERANCE = 1e-4
"""Largest distance of folded features from the features before, as a share of their norm."""


@torch.no_grad()
def folded(encoder: nn.Module, image_px: int) -> nn.Module:
    """Return a frozen encoder with the same features, but for rounding, and fewer operations.

    A batch norm that is the next child after a convolution becomes part of its weights, multiplied in float64. Whether
    it also comes next when the encoder runs is seen on an image of noise: where features differ by more than
    ``TOLERANCE``, ``encoder`` itself is returned, as it is where there is nothing to fold.
    """
    copy = deepcopy(encoder).eval()
    number = sum(_fold_children(module) for module in list(copy.modules()))
    if not number:
        return encoder
    noise = torch.rand(2, 3, image_px, image_px, generator=torch.Generator().manual_seed(0))
    before, after = encoder.eval()(noise), copy(noise)
    return copy if (after - before).norm() <= TOLERANCE * before.norm() else encoder


def _fold_children(module: nn.Module) -> int:
    """Fold each batch norm among the children of ``module`` that follows a convolution; return their number."""
    number = 0
    for (_, convolution), (behind, norm) in pairwise(list(module.named_children())):
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None:
            if convolution.out_channels != norm.num_features:
                continue
            _fold(convolution, norm)
            rest = [part for part in norm.children() if not isinstance(part, nn.Identity)]  # timm's have an activation
            setattr(module, behind, nn.Sequential(*rest))
            number += 1
    return number


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Change the weights of a convolution so that its output is the one of the batch norm behind it."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    factor = (1.0 if norm.weight is None else norm.weight) / (variance + norm.eps).sqrt()
    bias = -mean if convolution.bias is None else convolution.bias - mean
    shift = bias * factor + (0.0 if norm.bias is None else norm.bias)
    convolution.weight.copy_(convolution.weight * factor.view(-1, 1, 1, 1))
    convolution.bias = nn.Parameter(shift.to(convolution.weight.dtype), requires_grad=False)
