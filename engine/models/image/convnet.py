"""A small convolutional network that needs no download: every student starts from its own random weights."""

from torch import nn

from engine.io.paths import Paths
from engine.models.image import Normalised


def build(paths: Paths, *, width: int = 32, depth: int = 3, growth: float = 2.0, grid: int = 4) -> nn.Module:
    """Build ``depth`` blocks of convolution 3x3, group norm, ReLU and 2x2 average pooling, then average to a grid.

    The family of the image-distillation literature (arXiv 2203.11932 and before), with group instead of instance norm.
    The first block has ``width`` channels, and each one ``growth`` times as many as the block before it. The features
    are the last block's channels in ``grid`` x ``grid`` cells, so that they keep positions.
    """
    blocks: list[nn.Module] = []
    channels = 3
    for level in range(depth):
        wider = 8 * max(1, round(width * growth**level / 8))
        blocks += [
            nn.Conv2d(channels, wider, kernel_size=3, padding=1, bias=False),
            nn.GroupNorm(max(1, wider // 8), wider),
            nn.ReLU(),
            nn.AvgPool2d(2),
        ]
        channels = wider
    backbone = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(grid), nn.Flatten())
    return Normalised(backbone, mean=(0.5,) * 3, std=(0.25,) * 3, features=channels * grid**2, pretrained=False).eval()
