"""MobileNetV1 at any width multiplier (arXiv 1704.04861); timm registers only widths from 1.0 on."""

from functools import partial

from timm.models import EfficientNet
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from torch import nn

from engine.io.paths import Paths
from engine.models.image import Normalised
from engine.models.weights import load_weights

_STAGES = ["dsa_r1_k3_s1_c64", "dsa_r2_k3_s2_c128", "dsa_r2_k3_s2_c256", "dsa_r6_k3_s2_c512", "dsa_r2_k3_s2_c1024"]


def build(paths: Paths, *, width: float = 0.25, weights: str | None = None) -> nn.Module:
    """Build MobileNetV1 with "same" padding and without classifier, at ``width`` times the published channels.

    Without ``weights`` every student starts from its own random weights.
    """
    backbone = EfficientNet(
        decode_arch_def([[stage] for stage in _STAGES]),
        num_classes=0,
        num_features=0,
        stem_size=32,
        round_chs_fn=partial(round_channels, multiplier=width),
        act_layer=nn.ReLU6,
        pad_type="same",
    )
    if weights is not None:
        load_weights(backbone, paths, weights)
    return Normalised(
        backbone, mean=(0.5,) * 3, std=(0.5,) * 3, features=backbone.num_features, pretrained=weights is not None
    ).eval()
