"""The kernel energy against loops and limits."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from engine.losses.kernel_energy import geodesic_kernel, geodesic_kernel_energy
from engine.rng import named_generator


def cloud(name: str, points: int = 6) -> torch.Tensor:
    return normalize(torch.randn(points, 4, generator=named_generator(0, name), dtype=torch.float64), dim=-1)


def test_the_kernel_is_that_of_the_angle() -> None:
    a = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[0.0, 1.0], [math.sqrt(0.5), math.sqrt(0.5)]], dtype=torch.float64)
    expected = [math.exp(-((math.pi / 2) ** 2) / 0.5), math.exp(-((math.pi / 4) ** 2) / 0.5)]
    assert geodesic_kernel(a, b, width=0.5)[0].tolist() == pytest.approx(expected, rel=1e-9)


def test_the_energy_is_the_root_of_the_mean_discrepancy() -> None:
    a, b = cloud("a"), cloud("b", 5)

    def mean(one: torch.Tensor, other: torch.Tensor) -> float:
        angles = [[math.acos(min(1.0, float(x @ y))) for y in other] for x in one]
        return sum(math.exp(-(angle**2) / 2) for row in angles for angle in row) / (len(one) * len(other))

    square = mean(a, a) + mean(b, b) - 2 * mean(a, b)
    assert geodesic_kernel_energy(a, b, width=1.0).item() == pytest.approx(math.sqrt(square), rel=1e-5)


def test_a_cloud_has_no_distance_to_itself_and_finite_gradients_there() -> None:
    a = cloud("a").requires_grad_()
    energy = geodesic_kernel_energy(a, a.detach(), width=0.5)
    energy.backward()
    assert energy.item() == pytest.approx(1e-4)
    assert a.grad is not None
    assert a.grad.isfinite().all()
