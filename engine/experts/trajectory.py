"""Trajectories of experts, wherever they lie, and the segments that students match."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from engine.tensors import Params

ExpertId = int


@runtime_checkable
class ExpertSource(Protocol):
    """Anything that lists experts and their epochs and loads one snapshot."""

    def index(self) -> Mapping[ExpertId, tuple[int, ...]]:
        """Return the epochs that each expert has a snapshot of, in order."""
        ...

    def load(self, expert: ExpertId, epoch: int) -> Params:
        """Return one snapshot, read-only: clone what is to be changed."""
        ...


@dataclass(frozen=True)
class MemorySource:
    """Trajectories held in this process: for each expert, its parameters a epoch."""

    trajectories: Sequence[Mapping[int, Params]]

    def index(self) -> dict[ExpertId, tuple[int, ...]]:
        """Return the epochs of each expert."""
        return {expert: tuple(sorted(epochs)) for expert, epochs in enumerate(self.trajectories)}

    def load(self, expert: ExpertId, epoch: int) -> Params:
        """Return one snapshot (an alias)."""
        return self.trajectories[expert][epoch]


@dataclass(frozen=True)
class Segment:
    """Two snapshots of one expert: where a student starts, and where it should arrive."""

    start: Params
    target: Params


def sample_segment(source: ExpertSource, generator: torch.Generator, *, span: int, max_start: int) -> Segment:
    """Draw an expert and a start epoch below ``max_start``, and load that snapshot and the one ``span`` epochs later.

    One start is shared by both modalities.

    Raises:
        ValueError: no expert has two such snapshots.
    """
    index = source.index()
    choices = [
        (expert, epoch)
        for expert, epochs in sorted(index.items())
        for epoch in epochs
        if epoch < max_start and epoch + span in epochs
    ]
    if not choices:
        raise ValueError(
            f"method.span = {span} with method.max_start = {max_start} finds no segment in the trajectories, "
            f"which have {max((len(epochs) for epochs in index.values()), default=0)} snapshots at most."
        )
    expert, epoch = choices[int(torch.randint(len(choices), (), generator=generator))]
    return Segment(source.load(expert, epoch), source.load(expert, epoch + span))
