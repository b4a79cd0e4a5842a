"""Distance of two sets of unit vectors, by a kernel of the angle between vectors."""

import torch
from jaxtyping import Float
from torch import Tensor


def geodesic_kernel(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], *, width: float) -> Float[Tensor, "n m"]:
    """Return exp(-angle^2 / (2 width^2)) of every pair of unit vectors, with angles in radians.

    Cosines are clamped to 1e-6 from 1 and -1, where the angle has no derivative; gradients there are zero.
    """
    angles = (a @ b.T).clamp(-1 + 1e-6, 1 - 1e-6).acos()
    return torch.exp(-angles.square() / (2 * width**2))


def geodesic_kernel_energy(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], *, width: float) -> Float[Tensor, ""]:
    """Return the square root of the squared maximum mean discrepancy of two sets under the geodesic kernel.

    References:
        GKE of MDM, arXiv 2605.23482; the square is clamped to at least 1e-8, so that the root has a derivative.
    """
    within = geodesic_kernel(a, a, width=width).mean() + geodesic_kernel(b, b, width=width).mean()
    return (within - 2 * geodesic_kernel(a, b, width=width).mean()).clamp(min=1e-8).sqrt()
