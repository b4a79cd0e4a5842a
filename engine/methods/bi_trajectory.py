"""Bi-trajectory matching: the base paper's method, with the exact gradient at constant memory."""

from dataclasses import dataclass

import torch

from engine.methods import Sources
from engine.methods._trajectory_matching import TrajectoryMatching
from engine.methods._unrolled import loss_on_real
from engine.ranges import Count, NonNegative
from engine.unroll import OuterLosses


@dataclass(frozen=True, kw_only=True)
class Method(TrajectoryMatching):
    """Match both towers' trajectories by students that take every other pair for a negative.

    ``real_weight`` adds, with that factor, what the student loses on ``real_batch`` real pairs where its unroll ends:
    the expert says where to go, the pairs what for. It is ours and not in the paper; 0 leaves it out. All other options
    are those of ``TrajectoryMatching``.

    References:
        arXiv 2308.07545, equation 3 and algorithm 1.
    """

    real_weight: NonNegative = 0.0
    real_batch: Count = 512

    def besides(self, sources: Sources, generator: torch.Generator) -> OuterLosses | None:
        """Return what is lost on real pairs, if that counts."""
        if not self.real_weight:
            return None
        return loss_on_real(sources, self.real_batch, generator, weight=self.real_weight)
