"""RepBlend: LoRS on the heads of both towers, with representations blended in every inner step."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from engine.methods.lors import Method as LoRS
from engine.ranges import Positive
from engine.rng import draw_seed
from engine.unroll import InnerBatch, Mixup


@dataclass(frozen=True, kw_only=True)
class Method(LoRS):
    """Blend each pair's features and text with another pair's before the heads, and learn as LoRS does.

    One weight an inner step is drawn from Beta(``blend``, ``blend``); None blends nothing. The similarity target is
    not blended. All other options are those of ``lors``. Both towers have heads on frozen encoders, and matching these
    is the "symmetric projection" of the paper. With ``gradient: exact``, similarity and blending have the true gradient
    together, which no published code has.

    References:
        arXiv 2505.14705 and its public code, where the weight is drawn from Beta(1, 1).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"experts", "frozen_encoders"})

    blend: Positive | None = 1.0

    def draws(self, generator: torch.Generator) -> list[InnerBatch]:
        """Return the pairs of each inner step, and how they are blended."""
        return [InnerBatch(one.pairs, blended(one.pairs, self.blend, generator)) for one in super().draws(generator)]


def blended(pairs: Int64[Tensor, " b"], alpha: float | None, generator: torch.Generator) -> Mixup | None:
    """Draw one weight from Beta(``alpha``, ``alpha``) and a partner for each pair of a batch; None draws nothing."""
    if alpha is None:
        return None
    weight = float(np.random.default_rng(draw_seed(generator)).beta(alpha, alpha))
    return Mixup(weight, torch.randperm(len(pairs), generator=generator))
