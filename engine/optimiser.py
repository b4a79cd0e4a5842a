"""The outer optimiser: what steps the synthetic set."""

from collections.abc import Mapping
from typing import Any, Literal

import torch


def outer_optimiser(
    groups: list[dict[str, Any]],
    rates: Mapping[str, float],
    *,
    name: Literal["adam", "sgd"] = "adam",
    momentum: float = 0.5,
) -> torch.optim.Optimizer:
    """Return an optimiser over ``groups``, each with the learning rate of its name in ``rates``.

    ``adam`` moves pixels in [0, 1], embeddings and logarithms of rates by steps of about their rate; ``sgd`` with
    momentum 0.5 is what published code uses, with rates of 100 to 5,000. ``momentum`` belongs to ``sgd`` alone.

    Raises:
        ValueError: a group has no rate.
    """
    for entry in groups:
        if entry["name"] not in rates:
            raise ValueError(f"optimiser.{entry['name']}_lr: the method learns {entry['name']!r}, so it needs a rate.")
    with_rates = [{**entry, "lr": rates[entry["name"]]} for entry in groups]
    if name == "sgd":
        return torch.optim.SGD(with_rates, lr=0.0, momentum=momentum)
    return torch.optim.Adam(with_rates)
