"""LoRS: trajectory matching in which the similarity of every image with every text is learned too."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from engine.experts.trajectory import sample_segment
from engine.losses.contrastive import LossName
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
    match_segment,
    trajectories,
)
from engine.ranges import Count
from engine.synthetic.initialisation import Init, SeedPairs, initial_tensors
from engine.synthetic.set import SyntheticSet
from engine.synthetic.similarity import SimilarityOptions, make_similarity
from engine.tensors import MODALITIES
from engine.unroll import Draw


@dataclass(frozen=True, kw_only=True)
class Method:
    """Learn images, texts, rates and a similarity matrix that students then take for their targets.

    Options that it shares with ``bi_trajectory`` mean the same. Published: ``gradient`` truncated (``exact`` is ours),
    the wBCE loss, a low-rank similarity and inner batches of 20; one pair fewer than the budget pays for the
    similarity, which here is counted in bytes instead. Published inner batches are drawn from permutations, as here.

    References:
        arXiv 2406.03793 and its public code (wBCE, BCE, eNCE as ``info_nce``, KL); its gradient, arXiv 2211.10586.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"experts"})

    num_pairs: Count
    inner_steps: Count = 8
    inner_batch: Count | None = 20
    span: Count = 1
    max_start: Count = 2
    text_max_start: Count | None = None
    shortcut: Count | None = None
    distance: Distance = "each"
    loss: LossName = "wbce"
    similarity: SimilarityOptions = field(default_factory=SimilarityOptions)
    inner_lr: Rates = field(default_factory=Rates)
    init: Init = field(default_factory=Init)
    learn: Learn = field(default_factory=Learn)
    gradient: GradientName = "truncated"

    def epochs(self) -> Sequence[int]:
        """Return 0 to the last epoch at which a segment ends."""
        return epochs_read(
            span=self.span, max_start=self.max_start, text_max_start=self.text_max_start, shortcut=self.shortcut
        )

    def initial_state(self, seed_pairs: SeedPairs, sources: Sources, generator: torch.Generator) -> State:
        """Start from real pairs, cluster centres or noise, and from the identity as similarity."""
        images, texts = initial_tensors(self.init, seed_pairs, self.num_pairs, generator)
        rates = {m: getattr(self.inner_lr, m) for m in MODALITIES}
        similarity = make_similarity(self.similarity, self.num_pairs, generator)
        return State(SyntheticSet(images, texts, rates, similarity=similarity, loss=self.loss))

    def param_groups(self, state: State) -> list[dict[str, Any]]:
        """Return the images, the texts, the logarithms of the rates and the similarity, as far as they are learned."""
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
        return match_segment(
            state.synthetic,
            sources.student,
            segment,
            [Draw(pairs) for pairs in batches],
            inner_loss(sources.student, loss=self.loss),
            gradient=self.gradient,
            distance=self.distance,
        )
