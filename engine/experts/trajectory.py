"""Trajectories of experts, whatever they are stored in, and the segments that students match."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from engine.tensors import Params, of_modality

ExpertId = int


@runtime_checkable
class ExpertSource(Protocol):
    """A collection of experts: lists their epochs and loads one snapshot."""

    def index(self) -> Mapping[ExpertId, tuple[int, ...]]:
        """Return the epochs of each expert's snapshots, in order."""
        ...

    def load(self, expert: ExpertId, epoch: int) -> Params:
        """Return one snapshot, which must not be written to."""
        ...


@dataclass(frozen=True, eq=False)
class MemorySource:
    """Trajectories in the memory of this process: for each expert, its parameters by epoch."""

    trajectories: Sequence[Mapping[int, Params]]

    def index(self) -> dict[ExpertId, tuple[int, ...]]:
        """Return the epochs of each expert."""
        return {expert: tuple(sorted(epochs)) for expert, epochs in enumerate(self.trajectories)}

    def load(self, expert: ExpertId, epoch: int) -> Params:
        """Return one snapshot (an alias)."""
        return self.trajectories[expert][epoch]


@dataclass(frozen=True)
class Segment:
    """Two snapshots of one expert: a student's initial parameters, and those that it should reach."""

    start: Params
    target: Params


def segment_epochs(*, span: int, max_start: int, text_max_start: int | None, shortcut: int | None) -> Sequence[int]:
    """Return the epochs at which segments begin and end, and those that a shortcut is made from.

    Raises:
        ValueError: a segment would end after the end of the shortcut.
    """
    last = max(max_start, text_max_start or 0) - 1 + span
    if shortcut is not None and last > shortcut:
        raise ValueError(f"method.shortcut is {shortcut}, expected at least {last}, the last epoch of a segment.")
    return range((shortcut or last) + 1)


def sample_segment(
    source: ExpertSource,
    generator: torch.Generator,
    *,
    span: int,
    max_start: int,
    text_max_start: int | None = None,
) -> Segment:
    """Draw an expert and a start epoch below ``max_start``, and load that snapshot and the one ``span`` epochs later.

    Both modalities share the start, except with ``text_max_start``: then the text side of the same expert starts at an
    epoch drawn below that, independently of the images' (AMD's asynchronous matching, ICLR 2026, known here from
    descriptions).

    Raises:
        ValueError: no expert has two such snapshots.
    """
    expert, epoch = _draw(_starts(source, span, max_start), generator)
    images = Segment(source.load(expert, epoch), source.load(expert, epoch + span))
    if text_max_start is None:
        return images
    _, epoch = _draw([start for start in _starts(source, span, text_max_start) if start[0] == expert], generator)
    start, target = source.load(expert, epoch), source.load(expert, epoch + span)
    return Segment(
        {**of_modality(images.start, "image"), **of_modality(start, "text")},
        {**of_modality(images.target, "image"), **of_modality(target, "text")},
    )


def _starts(source: ExpertSource, span: int, max_start: int) -> list[tuple[ExpertId, int]]:
    """Return the experts and epochs at which a segment can start."""
    index = source.index()
    found = [
        (expert, epoch)
        for expert, epochs in sorted(index.items())
        for epoch in epochs
        if epoch < max_start and epoch + span in epochs
    ]
    if not found:
        raise ValueError(
            f"method.span = {span} with method.max_start = {max_start} finds no segment in the trajectories, "
            f"which have {max((len(epochs) for epochs in index.values()), default=0)} snapshots at most."
        )
    return found


def _draw(starts: Sequence[tuple[ExpertId, int]], generator: torch.Generator) -> tuple[ExpertId, int]:
    return starts[int(torch.randint(len(starts), (), generator=generator))]
