"""Shortcut trajectories: straight lines from an expert's start to its end, at the pace at which it moved."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from engine.experts.trajectory import ExpertId, ExpertSource
from engine.tensors import Params


@dataclass(frozen=True)
class ShortcutSource:
    """The trajectories of ``source`` up to epoch ``end``, each made convex.

    A tensor of snapshot t is (1 - b) theta_0 + b theta_end, where b is the share of the length of its path (the sum of
    the epochs' displacements) before t. Both ends stay as they are. The shares are kept in this object.

    References:
        arXiv 2603.25388 (PTM-ST), with end = 5 or 7; there b belongs to a layer, here to a tensor.
    """

    source: ExpertSource
    end: int
    _shares: dict[ExpertId, list[dict[str, float]]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def index(self) -> Mapping[ExpertId, tuple[int, ...]]:
        """Return the epochs up to the end, for the experts that have all of them."""
        whole = tuple(range(self.end + 1))
        return {e: whole for e, epochs in self.source.index().items() if set(whole) <= set(epochs)}

    def load(self, expert: ExpertId, epoch: int) -> Params:
        """Return one snapshot of the shortcut."""
        if epoch in (0, self.end):
            return self.source.load(expert, epoch)
        if expert not in self._shares:
            self._shares[expert] = path_shares(self.source, expert, self.end)
        shares = self._shares[expert][epoch]
        first, last = self.source.load(expert, 0), self.source.load(expert, self.end)
        return {name: torch.lerp(first[name], last[name], shares[name]) for name in first}


def path_shares(source: ExpertSource, expert: ExpertId, end: int) -> list[dict[str, float]]:
    """Return, per epoch and tensor, the share of the path before that epoch; at most two snapshots are held."""
    before = source.load(expert, 0)
    lengths = [dict.fromkeys(before, 0.0)]
    for epoch in range(1, end + 1):
        after = source.load(expert, epoch)
        lengths.append({name: lengths[-1][name] + float((after[name] - before[name]).norm()) for name in before})
        before = after
    return [{name: length[name] / total if total else 0.0 for name, total in lengths[-1].items()} for length in lengths]
