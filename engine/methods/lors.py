"""LoRS: trajectory matching that also learns the similarity of every image with every text."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch

from engine.experts.trajectory import sample_segment, segment_epochs
from engine.losses.contrastive import LossName
from engine.losses.matching import Distance
from engine.methods import Images, Learn, LearningRates, Metrics, Sources, State, Texts, learned_groups
from engine.ranges import Count, Positive
from engine.synthetic.initialisation import Init
from engine.synthetic.set import SyntheticSet
from engine.synthetic.similarity import SimilarityOptions, make_similarity
from engine.unroll import GradientName
from engine.unroll.student import inner_batches, inner_loss, match_segment


@dataclass(frozen=True, kw_only=True)
class Method:
    """Learn images, texts, learning rates and a similarity matrix that is the target of the students' ``loss``.

    Options that ``bi_trajectory`` has too mean the same here. Published: ``gradient`` truncated (``exact`` is ours),
    the wBCE loss, a low-rank similarity and inner batches of 20, cut from permutations. The published budget has one
    pair fewer to pay for the similarity, which here is counted in bytes instead.

    References:
        arXiv 2406.03793 and its public code (wBCE, BCE, eNCE as ``info_nce``, KL); its gradient, arXiv 2211.10586.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"experts"})

    num_pairs: Count
    inner_steps: Count = 8
    inner_batch: Count | None = 20
    inner_temperature: Positive | None = None
    span: Count = 1
    max_start: Count = 2
    text_max_start: Count | None = None
    shortcut: Count | None = None
    distance: Distance = "per_modality"
    inner_lr: LearningRates = field(default_factory=LearningRates)
    init: Init = field(default_factory=Init)
    learn: Learn = field(default_factory=Learn)
    gradient: GradientName = "truncated"
    loss: LossName = "wbce"
    similarity: SimilarityOptions = field(default_factory=SimilarityOptions)

    def epochs(self) -> Sequence[int]:
        """Return 0 to the last epoch at which a segment or the shortcut ends."""
        return segment_epochs(
            span=self.span, max_start=self.max_start, text_max_start=self.text_max_start, shortcut=self.shortcut
        )

    def initial_state(self, images: Images, texts: Texts, sources: Sources, generator: torch.Generator) -> State:
        """Return the set with the identity as its similarity."""
        similarity = make_similarity(self.similarity, self.num_pairs, generator)
        return State(SyntheticSet(images, texts, asdict(self.inner_lr), similarity=similarity, loss=self.loss))

    def param_groups(self, state: State) -> list[dict[str, Any]]:
        """Return the images, the texts, the log learning rates and the similarity, except those not learned."""
        return learned_groups(state.synthetic, self.learn)

    def backward(self, state: State, sources: Sources, generator: torch.Generator) -> Metrics:
        """Add the gradient of the matching loss of one random segment."""
        synthetic, student = state.synthetic, sources.student
        experts = sources.trajectories(self.shortcut)
        segment = sample_segment(
            experts, generator, span=self.span, max_start=self.max_start, text_max_start=self.text_max_start
        )
        batches = inner_batches(self.num_pairs, self.inner_batch, self.inner_steps, generator)
        loss = inner_loss(student, loss=self.loss, temperature=self.inner_temperature)
        return match_segment(synthetic, student, segment, batches, loss, gradient=self.gradient, distance=self.distance)
