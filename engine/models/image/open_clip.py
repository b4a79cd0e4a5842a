"""The image tower of any CLIP of open_clip, with its projection into the space that CLIP shares with texts."""

import torch
from torch import nn

from engine.io.paths import Paths
from engine.models.image import Normalised
from engine.models.open_clip import WithMathAttention, load_clip
from engine.ranges import Count


def build(
    paths: Paths,
    *,
    model: str,
    pretrained: str | None = None,
    weights: str | None = None,
    image_px: Count | None = None,
) -> nn.Module:
    """Build the image tower of ``model``, with mean and std of its own configuration.

    ``load_clip`` says where weights come from; without any every student starts from its own random ones. ``image_px``
    is the size of the images where it is not the one that the model was made for.

    Raises:
        FileNotFoundError: ``weights`` does not exist.
        ValueError: there is no such model or tag, or its weights cannot be loaded.
    """
    loaded = load_clip(
        paths, model=model, pretrained=pretrained, weights=weights, image_px=image_px, key="student.image"
    )
    visual = loaded.model.visual
    tower, size = WithMathAttention(visual), visual.image_size
    with torch.no_grad():
        features = tower(torch.zeros(1, 3, *(size if isinstance(size, tuple) else (size, size)))).shape[1]
    return Normalised(
        tower,
        mean=tuple(visual.preprocess_cfg["mean"]),
        std=tuple(visual.preprocess_cfg["std"]),
        features=features,
        pretrained=loaded.pretrained,
    ).eval()
