"""The outer optimiser takes each group's own rate."""

import pytest
import torch
from torch import nn

from engine.distill import outer_optimiser

RATES = {"image": 0.5, "text": 0.25, "log": 1.0}


def groups() -> list[dict]:
    image, text = (nn.Parameter(torch.tensor(value)) for value in (1.0, 2.0))
    return [{"name": "image", "params": [image]}, {"name": "text", "params": [text]}]


def rollout(optimiser: torch.optim.Optimizer, gradients: list[float]) -> list[list[float]]:
    """Return, a step, how far each parameter moved under the same gradient."""
    parameters = [value for group in optimiser.param_groups for value in group["params"]]
    moves = []
    for gradient in gradients:
        before = [value.item() for value in parameters]
        for value in parameters:
            value.grad = torch.tensor(gradient)
        optimiser.step()
        moves.append([value.item() - old for value, old in zip(parameters, before, strict=True)])
    return moves


def test_sgd_moves_by_rate_times_velocity() -> None:
    moves = rollout(outer_optimiser(groups(), RATES, name="sgd", momentum=0.5), [0.25, 1.0])
    # Velocities 0.25 and 0.5 * 0.25 + 1 = 1.125.
    assert moves == [[-0.125, -0.0625], [-0.5625, -0.28125]]


def test_adam_moves_by_the_rate_whatever_the_gradient() -> None:
    for gradient in (1e-3, 1e3):
        (move,) = rollout(outer_optimiser(groups(), RATES), [gradient])
        assert move == pytest.approx([-0.5, -0.25], rel=1e-4)


def test_the_groups_given_are_not_changed() -> None:
    given = groups()
    outer_optimiser(given, RATES)
    assert all(set(entry) == {"name", "params"} for entry in given)


def test_a_group_without_a_rate_is_named() -> None:
    with pytest.raises(ValueError, match=r"^optimiser\.text_lr: the method learns 'text', so it needs a rate\.$"):
        outer_optimiser(groups(), {"image": 0.1})
