"""Matching loss: the distance of a student's last parameters to the expert's, relative to the expert's movement."""

from typing import Literal

import torch
from torch import Tensor

from engine.tensors import MODALITIES, Modality, Params, of_modality

Distance = Literal["per_modality", "joint"]
"""The movement that a modality's distance is divided by: the expert's in that modality, or the sum of both."""


def squared_distance(a: Params, b: Params) -> Tensor:
    """Return the squared Euclidean distance between two sets of parameters with the same names."""
    assert a.keys() == b.keys(), "parameters of different students"
    return torch.stack([(a[name] - b[name]).square().sum() for name in a]).sum()


def matching_losses(
    end: Params, start: Params, target: Params, *, distance: Distance = "per_modality"
) -> dict[Modality, Tensor]:
    """Return, per modality, the squared distance of ``end`` to ``target`` relative to that of ``start``.

    A modality in which the expert did not move counts nothing: its loss is 0, without a gradient. With ``joint``, both
    distances are divided by the sum of both movements, so that their sum is one ratio.

    References:
        arXiv 2308.07545, equation 3 (the sum of both entries is the bi-trajectory matching loss); ``joint`` is the
        merged loss of arXiv 2406.03793 on COCO, whose code uses it for the data but not for the learning rates.
    """
    moved, distances = {}, {}
    for modality in MODALITIES:
        start_part, target_part = of_modality(start, modality), of_modality(target, modality)
        if not start_part:
            continue
        moved[modality] = squared_distance(start_part, target_part)
        distances[modality] = squared_distance(of_modality(end, modality), target_part)
    if distance == "joint":
        moved = dict.fromkeys(moved, torch.stack(list(moved.values())).sum()) if moved else moved
    # A GPU is not asked whether the expert moved; a diverged expert has moved by NaN, which shows in the loss.
    return {m: value / moved[m].masked_fill(moved[m] == 0, torch.inf) for m, value in distances.items()}
