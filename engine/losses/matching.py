"""The distance between where a student ended and where the expert went."""

import torch
from torch import Tensor

from engine.tensors import MODALITIES, Modality, Params, of_modality


def squared_distance(a: Params, b: Params) -> Tensor:
    """Return the squared Euclidean distance between two sets of parameters with the same names."""
    assert a.keys() == b.keys(), "parameters of different students"
    return torch.stack([(a[name] - b[name]).square().sum() for name in a]).sum()


def matching_losses(end: Params, start: Params, target: Params) -> dict[Modality, Tensor]:
    """Return, a modality, the squared distance of ``end`` to ``target`` relative to that of ``start``.

    A modality whose expert did not move between ``start`` and ``target`` is left out, rather than divided by zero.

    References:
        arXiv 2308.07545, equation 3 (the sum of both entries is the bi-trajectory matching loss).
    """
    losses = {}
    for modality in MODALITIES:
        start_part, target_part = of_modality(start, modality), of_modality(target, modality)
        if not start_part:
            continue
        moved = squared_distance(start_part, target_part)
        if moved != 0:  # not a number where the expert diverged, which is to show in the loss
            losses[modality] = squared_distance(of_modality(end, modality), target_part) / moved
    return losses
