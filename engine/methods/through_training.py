"""Back-propagation through training: what students trained on the set lose on real pairs, with its exact gradient."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from engine.losses.contrastive import LossName
from engine.methods import Metrics, Sources, State
from engine.methods._unrolled import (
    GradientName,
    Learn,
    LearningRates,
    inner_batches,
    inner_loss,
    learned_groups,
    loss_on_real,
    unroll_backward,
)
from engine.models.two_tower import TwoTower
from engine.ranges import Count, Whole
from engine.synthetic.initialisation import Init
from engine.synthetic.set import SyntheticSet
from engine.synthetic.similarity import SimilarityOptions, make_similarity
from engine.tensors import MODALITIES, Params
from engine.unroll import InnerBatch, Unroll, rollout


@dataclass(frozen=True, kw_only=True)
class Method:
    """Train a fresh student on the set for a random time, and lower its contrastive loss on ``real_batch`` real pairs.

    The student takes between 0 and ``warmup_steps`` steps that are not differentiated, and then ``inner_steps`` that
    are. No expert is needed, and nothing but the loss of real pairs says what is learned. The exact gradient at
    constant memory makes long unrolls affordable.

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
        """Return 0 and, for cluster centres, 1: no trajectory is matched."""
        return range(2 if "kmeans" in (self.init.image, self.init.text) else 1)

    def initial_state(self, images: Tensor, texts: Tensor, sources: Sources, generator: torch.Generator) -> State:
        """Start from real pairs, cluster centres or noise."""
        learning_rates = {m: getattr(self.inner_lr, m) for m in MODALITIES}
        similarity = make_similarity(self.similarity, self.num_pairs, generator)
        return State(SyntheticSet(images, texts, learning_rates, similarity=similarity, loss=self.loss))

    def param_groups(self, state: State) -> list[dict[str, Any]]:
        """Return the images, the texts, the logarithms of the rates and the similarity, as far as they are learned."""
        return learned_groups(state.synthetic, self.learn)

    def backward(self, state: State, sources: Sources, generator: torch.Generator) -> Metrics:
        """Add the gradient of the real pairs' loss behind one unroll."""
        synthetic, student = state.synthetic, sources.student
        loss = inner_loss(student, loss=self.loss)
        warmup = int(torch.randint(self.warmup_steps + 1, (), generator=generator))
        batches = inner_batches(len(synthetic), self.inner_batch, warmup + self.inner_steps, generator)
        draws = [InnerBatch(pairs) for pairs in batches]
        start = self._warmed_up(synthetic, student, draws[:warmup], generator)
        end = loss_on_real(sources, self.real_batch, generator)
        return unroll_backward(synthetic, student, start, draws[warmup:], loss, end, gradient=self.gradient)

    def _warmed_up(
        self, synthetic: SyntheticSet, student: TwoTower, draws: list[InnerBatch], generator: torch.Generator
    ) -> Params:
        """Return a fresh student's parameters after the steps of ``draws``."""
        start = student.init_params(generator)
        if not draws:
            return start
        with torch.no_grad():
            images = student.image.prepare(synthetic.images)
            similarity = synthetic.similarity()
            data = {"images": images, "texts": synthetic.texts}
            data |= {} if similarity is None else {"similarity": similarity}
            data = {name: value.detach() for name, value in data.items()}
            learning_rates = {m: value.exp() for m, value in synthetic.log_rates.items()}
        device = images.device
        on_device = [InnerBatch(draw.pairs.to(device)) for draw in draws]
        return rollout(
            Unroll(inner_loss(student, loss=self.loss), start, lambda _: {}, data, learning_rates, on_device)
        )[-1]
