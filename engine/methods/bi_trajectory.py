"""Bi-trajectory matching: the base paper's method, with the exact gradient at constant memory."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch

from engine.experts.trajectory import sample_segment, segment_epochs
from engine.losses.matching import Distance
from engine.methods import Images, Learn, LearningRates, Metrics, Sources, State, Texts, learned_groups, loss_on_real
from engine.ranges import Count, NonNegative, Positive
from engine.synthetic.initialisation import Init
from engine.synthetic.set import SyntheticSet
from engine.unroll import GradientName
from engine.unroll.student import inner_batches, inner_loss, match_segment


@dataclass(frozen=True, kw_only=True)
class Method:
    """Match, in both towers, the expert's parameters ``span`` epochs later by ``inner_steps`` steps on synthetic pairs.

    Students are trained with InfoNCE, in which every other pair of an inner batch is a negative.

    Args:
        inner_batch: Pairs of one inner step (None: all), cut from permutations and never the same pair twice.
        inner_temperature: None is the student's own. The published code leaves out the exponential of the logit scale
            and so unrolls its students at 1 / ln(1 / 0.07) = 0.376, while experts have 0.07; that value reproduces it.
        max_start: Number of start epochs, counted from 0.
        text_max_start: If given, the text side starts at an epoch of its own, drawn below it (AMD).
        shortcut: If given, match straightened trajectories of that many epochs (PTM-ST).
        distance: Normalise the distance of each modality by its own movement, or both by their sum.
        real_weight: Add the contrastive loss of ``real_batch`` real pairs at the end of the unroll, with this factor.
            It is ours and not in the paper; 0 leaves it out.

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
    distance: Distance = "per_modality"
    inner_lr: LearningRates = field(default_factory=LearningRates)
    init: Init = field(default_factory=Init)
    learn: Learn = field(default_factory=Learn)
    gradient: GradientName = "exact"
    real_weight: NonNegative = 0.0
    real_batch: Count = 512

    def epochs(self) -> Sequence[int]:
        """Return 0 to the last epoch at which a segment or the shortcut ends."""
        return segment_epochs(
            span=self.span, max_start=self.max_start, text_max_start=self.text_max_start, shortcut=self.shortcut
        )

    def initial_state(self, images: Images, texts: Texts, sources: Sources, generator: torch.Generator) -> State:
        """Return the set alone."""
        return State(SyntheticSet(images, texts, asdict(self.inner_lr)))

    def param_groups(self, state: State) -> list[dict[str, Any]]:
        """Return the images, the texts and the log learning rates, except those not learned."""
        return learned_groups(state.synthetic, self.learn)

    def backward(self, state: State, sources: Sources, generator: torch.Generator) -> Metrics:
        """Add the gradient of the matching loss of one random segment."""
        synthetic, student = state.synthetic, sources.student
        experts = sources.trajectories(self.shortcut)
        segment = sample_segment(
            experts, generator, span=self.span, max_start=self.max_start, text_max_start=self.text_max_start
        )
        batches = inner_batches(self.num_pairs, self.inner_batch, self.inner_steps, generator)
        real = None
        if self.real_weight:
            real = loss_on_real(sources, self.real_batch, generator, weight=self.real_weight)
        return match_segment(
            synthetic,
            student,
            segment,
            batches,
            inner_loss(student, temperature=self.inner_temperature),
            gradient=self.gradient,
            distance=self.distance,
            auxiliary_losses=real,
        )
