"""Names of tensors that travel between modules, and the check of those that come from files."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Params = dict[str, Tensor]
"""Named trainable tensors of a student; keys begin with ``image.`` or ``text.``."""

Modality = str
"""``"image"`` or ``"text"``."""

MODALITIES: tuple[Modality, Modality] = ("image", "text")


def of_modality(params: Params, modality: Modality) -> Params:
    """Return the entries of ``params`` that belong to one modality (aliases, not copies)."""
    return {name: value for name, value in params.items() if name.startswith(f"{modality}.")}


def modality_of(name: str) -> Modality:
    """Return the modality that the parameter ``name`` belongs to."""
    return name.partition(".")[0]


def sgd_groups(params: Params, learning_rates: Mapping[Modality, float]) -> list[dict[str, Any]]:
    """Return one parameter group per modality with its learning rate, images first."""
    return [{"params": list(of_modality(params, m).values()), "lr": learning_rates[m]} for m in MODALITIES]


def finite_tensor(name: str, value: object, *shape: int | None) -> Tensor:
    """Return ``value`` in float32 if it is a dense tensor of finite numbers of this shape (None: any length above 0).

    Raises:
        ValueError: it is not; the message begins with ``name``.
    """
    expected = f"expected a tensor of numbers with {len(shape)} dimensions"
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} is {type(value).__name__}, {expected}.")
    dense = value.layout is torch.strided and value.device.type == "cpu"
    if not dense or not value.is_floating_point() or value.ndim != len(shape):
        raise ValueError(f"{name} is {list(value.shape)} of {value.dtype}, {expected}.")
    if 0 in value.shape or any(length not in (None, own) for length, own in zip(shape, value.shape, strict=True)):
        wanted = ", ".join("1 or more" if length is None else str(length) for length in shape)
        raise ValueError(f"{name} has the shape {list(value.shape)}, expected [{wanted}].")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ValueError(f"{name} repeats the numbers of a smaller tensor, {expected} of its own.")
    single = value.detach().float()
    check_finite(name, single)
    return single


def check_finite(name: str, value: Tensor) -> None:
    """Check that every number of ``value`` is finite.

    Raises:
        ValueError: one is not; the message begins with ``name`` and tells the first and its place.
    """
    if value.sum().isfinite():  # quick, and so of every term; a sum of finite numbers may overflow
        return
    wrong = ~value.isfinite()
    if wrong.any():
        place = wrong.nonzero()[0].tolist()
        raise ValueError(f"{name}{place or ''} is {value[tuple(place)].item()}, expected finite numbers.")
