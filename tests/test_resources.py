"""Shares of processors and GPUs add up as Ray counts them."""

import math

import pytest

from engine.resources import how_many_fit


@pytest.mark.parametrize(("share", "number"), [(0.2, 5), (0.1, 10), (0.3, 3), (0.05, 20), (1.0, 1), (0.7, 1)])
def test_shares_of_a_gpu_are_not_lost_to_rounding(share: float, number: int) -> None:
    assert how_many_fit({"cpu": 0.0, "gpu": share}, {"cpu": 4, "gpu": 1}) == number


def test_the_scarcest_resource_counts() -> None:
    assert how_many_fit({"cpu": 1, "gpu": 0.5}, {"cpu": 3, "gpu": 4}) == 3
    assert how_many_fit({"cpu": 1, "gpu": 0.5}, {"cpu": 3}) == 0
    assert how_many_fit({"cpu": 0.0}, {"cpu": 3}) == math.inf
    assert how_many_fit({"cpu": 1}, {"cpu": math.inf}) > 10**9
