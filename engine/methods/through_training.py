"""Back-propagation through training: lower the loss on real pairs of students trained on the set."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch

from engine.losses.contrastive import LossName
from engine.methods import (
    Images,
    Learn,
    LearningRates,
    Metrics,
    Sources,
    State,
    Texts,
    epochs_of_init,
    learned_groups,
    loss_on_real,
)
from engine.ranges import Count, Whole
from engine.synthetic.initialisation import Init
from engine.synthetic.set import SyntheticSet
from engine.synthetic.similarity import SimilarityOptions, make_similarity
from engine.unroll import GradientName
from engine.unroll.student import inner_batches, inner_loss, trained_params, unroll_backward


@dataclass(frozen=True, kw_only=True)
class Method:
    """Train a new student on the set for a random time, and lower its contrastive loss on ``real_batch`` real pairs.

    The student takes between 0 and ``warmup_steps`` steps that are not differentiated, and then ``inner_steps`` that
    are. No expert is needed: only the loss of real pairs decides what is learned. The exact gradient at constant
    memory makes long unrolls affordable.

    References:
        arXiv 1811.10959 (unrolled students), arXiv 2311.07025 (a random window of the unroll is differentiated).
        For image-text pairs we know of no publication.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pairs"})

    num_pairs: Count
    inner_steps: Count = 16
    inner_batch: Count | None = None
    warmup_steps: Whole = 0
    real_batch: Count = 512
    loss: LossName = "info_nce"
    similarity: SimilarityOptions = field(default_factory=lambda: SimilarityOptions(kind="identity"))
    inner_lr: LearningRates = field(default_factory=LearningRates)
    init: Init = field(default_factory=Init)
    learn: Learn = field(default_factory=Learn)
    gradient: GradientName = "exact"

    def epochs(self) -> Sequence[int]:
        """Return the epochs that ``init`` reads."""
        return epochs_of_init(self.init)

    def initial_state(self, images: Images, texts: Texts, sources: Sources, generator: torch.Generator) -> State:
        """Return the set with the identity as its similarity."""
        similarity = make_similarity(self.similarity, self.num_pairs, generator)
        return State(SyntheticSet(images, texts, asdict(self.inner_lr), similarity=similarity, loss=self.loss))

    def param_groups(self, state: State) -> list[dict[str, Any]]:
        """Return the images, the texts, the log learning rates and the similarity, except those not learned."""
        return learned_groups(state.synthetic, self.learn)

    def backward(self, state: State, sources: Sources, generator: torch.Generator) -> Metrics:
        """Add the gradient of the real pairs' loss at the end of one unroll."""
        synthetic, student = state.synthetic, sources.student
        loss = inner_loss(student, loss=self.loss)
        warmup = int(torch.randint(self.warmup_steps + 1, (), generator=generator))
        batches = inner_batches(self.num_pairs, self.inner_batch, warmup + self.inner_steps, generator)
        start = student.init_params(generator)
        if warmup:
            start = trained_params(synthetic, student, start, batches[:warmup], loss)
        real = loss_on_real(sources, self.real_batch, generator)
        return unroll_backward(synthetic, student, start, batches[warmup:], loss, real, gradient=self.gradient)
