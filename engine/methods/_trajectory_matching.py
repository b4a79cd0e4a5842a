"""What bi-trajectory matching and its successors share: a segment of an expert, matched by unrolled students."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from engine.experts.trajectory import Segment, sample_segment
from engine.losses.contrastive import LossName
from engine.losses.matching import Distance
from engine.methods import Metrics, Sources, State
from engine.methods._unrolled import (
    GradientName,
    Learn,
    LearningRates,
    epochs_read,
    inner_batches,
    inner_loss,
    learned_groups,
    match_segment,
    trajectories,
)
from engine.ranges import Count, Positive
from engine.synthetic.initialisation import Init
from engine.synthetic.set import SyntheticSet
from engine.synthetic.similarity import SimilarityOptions, make_similarity
from engine.tensors import MODALITIES
from engine.unroll import InnerBatch, OuterLosses


@dataclass(frozen=True, kw_only=True)
class TrajectoryMatching:
    """Match, in both towers, the expert's parameters ``span`` epochs on by ``inner_steps`` steps on synthetic pairs.

    ``inner_batch`` pairs (all, when None) make one inner step; batches run through a permutation of the pairs, so that
    each is used equally often. ``max_start`` is the number of start epochs, from 0 on; with ``text_max_start`` the
    text side starts at an epoch of its own (AMD). ``shortcut`` matches straightened trajectories of that many epochs
    (PTM-ST). ``distance`` says what a modality's distance is relative to.

    ``inner_temperature`` None is the student's own. The published code of arXiv 2308.07545 leaves out the exponential
    of the logit scale and so unrolls its students at 1 / ln(1 / 0.07) = 0.376, while experts have 0.07; that value
    reproduces it.
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

    def epochs(self) -> Sequence[int]:
        """Return 0 to the last epoch at which a segment ends, or that a shortcut is made from."""
        return epochs_read(
            span=self.span, max_start=self.max_start, text_max_start=self.text_max_start, shortcut=self.shortcut
        )

    def target(self) -> tuple[LossName, SimilarityOptions]:
        """Return the loss that students take, and the similarity that it starts from."""
        return "info_nce", SimilarityOptions(kind="identity")

    def initial_state(self, images: Tensor, texts: Tensor, sources: Sources, generator: torch.Generator) -> State:
        """Start from real pairs, cluster centres or noise, and from the identity as similarity."""
        learning_rates = {m: getattr(self.inner_lr, m) for m in MODALITIES}
        loss, options = self.target()
        similarity = make_similarity(options, self.num_pairs, generator)
        return State(SyntheticSet(images, texts, learning_rates, similarity=similarity, loss=loss))

    def param_groups(self, state: State) -> list[dict[str, Any]]:
        """Return the images, the texts, the logarithms of the rates and the similarity, as far as they are learned."""
        return learned_groups(state.synthetic, self.learn)

    def draws(self, generator: torch.Generator) -> list[InnerBatch]:
        """Return what is random about each inner step."""
        return [
            InnerBatch(pairs) for pairs in inner_batches(self.num_pairs, self.inner_batch, self.inner_steps, generator)
        ]

    def besides(self, sources: Sources, generator: torch.Generator) -> OuterLosses | None:
        """Return what is lost at the end of the unroll besides the match."""
        return None

    def backward(self, state: State, sources: Sources, generator: torch.Generator) -> Metrics:
        """Add the gradient of the matching loss of one random segment."""
        segment = self._segment(sources, generator)
        draws = self.draws(generator)
        loss, _ = self.target()
        return match_segment(
            state.synthetic,
            sources.student,
            segment,
            draws,
            inner_loss(sources.student, loss=loss, temperature=self.inner_temperature),
            gradient=self.gradient,
            distance=self.distance,
            besides=self.besides(sources, generator),
        )

    def _segment(self, sources: Sources, generator: torch.Generator) -> Segment:
        return sample_segment(
            trajectories(sources.experts, self.shortcut),
            generator,
            span=self.span,
            max_start=self.max_start,
            text_max_start=self.text_max_start,
        )
