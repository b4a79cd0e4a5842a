"""Bi-trajectory matching: the base paper's method, with the exact gradient at constant memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from engine.experts.trajectory import sample_segment
from engine.losses.matching import Distance
from engine.methods import Metrics, Sources, State
from engine.methods._unrolled import (
    GradientName,
    Learn,
    Rates,
    epochs_read,
    inner_batches,
    inner_loss,
    learned_groups,
    loss_on_real,
    match_segment,
    trajectories,
)
from engine.ranges import Count, NonNegative, Positive
from engine.synthetic.initialisation import Init, SeedPairs, initial_tensors
from engine.synthetic.set import SyntheticSet
from engine.tensors import MODALITIES
from engine.unroll import Draw


@dataclass(frozen=True, kw_only=True)
class Method:
    """Match, in both towers, the expert's parameters ``span`` epochs on by ``inner_steps`` steps on synthetic pairs.

    ``inner_batch`` pairs (all, when None) make one inner step; batches run through a permutation of the pairs, so that
    each is used equally often. ``max_start`` is the number of start epochs, from 0 on; with ``text_max_start`` the
    text side starts at an epoch of its own (AMD). ``shortcut`` matches straightened trajectories of that many epochs
    (PTM-ST). ``distance`` says what a modality's distance is relative to.

    ``real_weight`` adds, with that factor, what the student loses on ``real_batch`` real pairs where its unroll ends:
    the expert says where to go, the pairs what for. It is ours and not in the paper; 0 leaves it out.

    ``inner_temperature`` None is the student's own. The published code leaves out the exponential of the logit scale
    and so unrolls its students at 1 / ln(1 / 0.07) = 0.376, while experts have 0.07; that value reproduces it.

    References:
        arXiv 2308.07545, equation 3 and algorithm 1.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"experts"})

    num_pairs: Count
    inner_steps: Count = 8
    inner_batch: Count | None = None
    inner_temperature: Positive | None = None
    span: Count = 1
    max_start: Count = 2
    text_max_start: Count | None = None
    shortcut: Count | None = None
    distance: Distance = "each"
    real_weight: NonNegative = 0.0
    real_batch: Count = 512
    inner_lr: Rates = field(default_factory=Rates)
    init: Init = field(default_factory=Init)
    learn: Learn = field(default_factory=Learn)
    gradient: GradientName = "exact"

    def epochs(self) -> Sequence[int]:
        """Return 0 to the last epoch at which a segment ends."""
        return epochs_read(
            span=self.span, max_start=self.max_start, text_max_start=self.text_max_start, shortcut=self.shortcut
        )

    def initial_state(self, seed_pairs: SeedPairs, sources: Sources, generator: torch.Generator) -> State:
        """Start from real pairs, cluster centres or noise."""
        images, texts = initial_tensors(self.init, seed_pairs, self.num_pairs, generator)
        return State(SyntheticSet(images, texts, {m: getattr(self.inner_lr, m) for m in MODALITIES}))

    def param_groups(self, state: State) -> list[dict[str, Any]]:
        """Return the images, the texts and the logarithms of the rates, as far as they are learned."""
        return learned_groups(state.synthetic, self.learn)

    def backward(self, state: State, sources: Sources, generator: torch.Generator) -> Metrics:
        """Add the gradient of the matching loss of one random segment."""
        segment = sample_segment(
            trajectories(sources.experts, self.shortcut),
            generator,
            span=self.span,
            max_start=self.max_start,
            text_max_start=self.text_max_start,
        )
        batches = inner_batches(len(state.synthetic), self.inner_batch, self.inner_steps, generator)
        real = loss_on_real(sources, self.real_batch, generator, weight=self.real_weight) if self.real_weight else None
        return match_segment(
            state.synthetic,
            sources.student,
            segment,
            [Draw(pairs) for pairs in batches],
            inner_loss(sources.student, temperature=self.inner_temperature),
            gradient=self.gradient,
            distance=self.distance,
            besides=real,
        )
