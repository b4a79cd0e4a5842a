"""Shape aliases used in annotations; checked by beartype in the tests only."""

from collections.abc import Mapping
from typing import Any

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
    """Return one parameter group a modality for an optimiser, image first, with its learning rate."""
    return [{"params": list(of_modality(params, m).values()), "lr": learning_rates[m]} for m in MODALITIES]
