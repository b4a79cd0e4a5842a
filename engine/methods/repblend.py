"""RepBlend: LoRS on the heads of both towers, with representations blended in every inner step."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

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
from engine.ranges import Count, Positive
from engine.rng import draw_seed
from engine.synthetic.initialisation import Init, SeedPairs, initial_tensors
from engine.synthetic.set import SyntheticSet
from engine.synthetic.similarity import SimilarityOptions, make_similarity
from engine.tensors import MODALITIES
from engine.unroll import Blend, Draw


@dataclass(frozen=True, kw_only=True)
class Method:
    """Blend each pair's features and text with another pair's before the heads, and learn as LoRS does.

    One weight an inner step is drawn from Beta(``blend``, ``blend``); None blends nothing. The similarity target is
    not blended. Options that it shares with ``lors`` mean the same. Both towers have heads on frozen encoders, and
    matching these is the "symmetric projection" of the paper. With ``gradient: exact``, similarity and blending have
    the true gradient together, which no published code has.

    References:
        arXiv 2505.14705 and its public code, where the weight is drawn from Beta(1, 1).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"experts", "frozen_encoders"})

    num_pairs: Count
    blend: Positive | None = 1.0
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
            [Draw(pairs, blended(pairs, self.blend, generator)) for pairs in batches],
            inner_loss(sources.student, loss=self.loss),
            gradient=self.gradient,
            distance=self.distance,
        )


def blended(pairs: Int64[Tensor, " b"], alpha: float | None, generator: torch.Generator) -> Blend | None:
    """Draw one weight from Beta(``alpha``, ``alpha``) and a partner for each pair of a batch; None draws nothing."""
    if alpha is None:
        return None
    weight = float(np.random.default_rng(draw_seed(generator)).beta(alpha, alpha))
    return Blend(weight, torch.randperm(len(pairs), generator=generator))
