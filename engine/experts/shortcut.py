"""Shortcut trajectories: an expert's path as a straight line a layer, walked at the pace at which it moved."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch

from engine.experts.trajectory import ExpertId, ExpertSource
from engine.tensors import Params


@dataclass(frozen=True)
class ShortcutSource:
    """The trajectories of ``source`` up to epoch ``end``, each made convex.

    A tensor of snapshot t is (1 - b) theta_0 + b theta_end, where b is the share of the whole length of its path (the
    sum of the epochs' displacements) that lies before t. The ends stay as they are.

    References:
        arXiv 2603.25388 (PTM-ST), with end = 5 or 7; there b is a layer's, here a tensor's.
    """

    source: ExpertSource
    end: int

    def index(self) -> Mapping[ExpertId, tuple[int, ...]]:
        """Return the epochs up to the end, of the experts that reached it without a gap."""
        whole = tuple(range(self.end + 1))
        return {e: whole for e, epochs in self.source.index().items() if set(whole) <= set(epochs)}

    def load(self, expert: ExpertId, epoch: int) -> Params:
        """Return one snapshot of the shortcut."""
        if epoch in (0, self.end):
            return self.source.load(expert, epoch)
        assert isinstance(self.source, Hashable)  # by identity, or by its folder
        shares = _shares(self.source, self.end, expert)[epoch]
        first, last = self.source.load(expert, 0), self.source.load(expert, self.end)
        return {name: torch.lerp(first[name], last[name], shares[name]) for name in first}


@lru_cache(maxsize=256)
def _shares(source: ExpertSource, end: int, expert: ExpertId) -> list[dict[str, float]]:
    """Return, an epoch and a tensor, the share of the path that lies before that epoch; kept, for it reads them all."""
    snapshots = [source.load(expert, epoch) for epoch in range(end + 1)]
    steps = [{n: float((b[n] - a[n]).norm()) for n in a} for a, b in pairwise(snapshots)]
    whole = {name: sum(step[name] for step in steps) for name in snapshots[0]}
    return [
        {name: sum(step[name] for step in steps[:epoch]) / whole[name] if whole[name] else 0.0 for name in whole}
        for epoch in range(end + 1)
    ]
