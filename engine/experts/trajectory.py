"""Trajectories of experts, wherever they lie, and the segments that students match."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from engine.tensors import Params, of_modality

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


@dataclass(frozen=True, eq=False)
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


def sample_segment(
    source: ExpertSource,
    generator: torch.Generator,
    *,
    span: int,
    max_start: int,
    text_max_start: int | None = None,
) -> Segment:
    """Draw an expert and a start epoch below ``max_start``, and load that snapshot and the one ``span`` epochs later.

    One start is shared by both modalities, unless the texts have a range of their own: with ``text_max_start`` the
    same expert's text side starts at an epoch drawn below it, independently of the images' (AMD's asynchronous
    matching, ICLR 2026, known here from descriptions).

    Raises:
        ValueError: no expert has two such snapshots.
    """
    expert, epoch = _drawn(_starts(source, span, max_start), generator)
    images = Segment(source.load(expert, epoch), source.load(expert, epoch + span))
    if text_max_start is None:
        return images
    own = [start for start in _starts(source, span, text_max_start) if start[0] == expert]
    _, epoch = _drawn(own, generator)
    texts = Segment(source.load(expert, epoch), source.load(expert, epoch + span))
    return Segment(_sides(images.start, texts.start), _sides(images.target, texts.target))


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


def _drawn(choices: Sequence[tuple[ExpertId, int]], generator: torch.Generator) -> tuple[ExpertId, int]:
    return choices[int(torch.randint(len(choices), (), generator=generator))]


def _sides(images: Params, texts: Params) -> Params:
    """Return the image side of one snapshot with the text side of another."""
    return {**of_modality(images, "image"), **of_modality(texts, "text")}
