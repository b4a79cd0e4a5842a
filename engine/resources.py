"""Arithmetic of resources in Ray's units, in which shares of a processor or a GPU add up without rounding."""

import math
from collections.abc import Mapping

UNITS = 10_000
"""Ray counts every resource in ten-thousandths."""


def how_many_fit(request: Mapping[str, float], available: Mapping[str, float]) -> float:
    """Return how many holders of ``request`` fit into ``available`` at once; infinity for a request of nothing.

    A float division gives 4 shares of 0.2 in 1; here these are 5. A resource that is not available counts as 0.
    """
    fits = [_units(available.get(name, 0.0)) // _units(share) for name, share in request.items() if _units(share) > 0]
    return min(fits, default=math.inf)


def _units(amount: float) -> int:
    """Return an amount in ten-thousandths; infinity becomes a number above all others."""
    return round(amount * UNITS) if math.isfinite(amount) else 2**62
