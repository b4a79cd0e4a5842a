"""Students of the full data: the figure that distilled sets are held against, and the evidence that coresets need."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn.functional import normalize

from engine.coresets import WarmupStatistics
from engine.data.prepared import PreparedPairs
from engine.evaluation.student import embed_split, score
from engine.experts.train import ExpertRecipe, train_expert
from engine.losses.contrastive import similarities
from engine.models.two_tower import TwoTower
from engine.tensors import Params


@dataclass(frozen=True)
class FullData:
    """Test and val metrics of one student of all real pairs, at the epoch chosen on val."""

    test: dict[str, float]
    val: dict[str, float]
    epoch: int
    warmup: WarmupStatistics | None


class ForgettingCounter:
    """Counts, over the epochs of a training run, how often each pair goes from correct to incorrect.

    A pair is correct when it is ranked first of its batch in both directions (arXiv 2605.23482, S3.5.2).
    """

    def __init__(self, num_pairs: int) -> None:
        self.correct = torch.zeros(num_pairs, dtype=torch.bool)
        self.learned = torch.zeros(num_pairs, dtype=torch.bool)
        self.forgotten = torch.zeros(num_pairs, dtype=torch.int64)

    def __call__(self, rows: Int64[Tensor, " b"], images: Tensor, texts: Tensor) -> None:
        """Take note of one batch."""
        scores = similarities(images, texts).cpu()
        own = torch.arange(len(rows))
        correct = (scores.argmax(dim=0) == own) & (scores.argmax(dim=1) == own)
        self.forgotten[rows] += (self.correct[rows] & ~correct).long()
        self.correct[rows] = correct
        self.learned[rows] |= correct


def pair_embeddings(student: TwoTower, params: Params, pairs: PreparedPairs) -> tuple[Tensor, Tensor]:
    """Return the L2-normalised embeddings of each pair's image and of its caption, on the CPU."""
    images, texts = (normalize(side, dim=-1).cpu() for side in embed_split(student, params, pairs))
    return images[torch.from_numpy(pairs.caption_image)], texts


def train_on_everything(
    student: TwoTower,
    train: PreparedPairs,
    *,
    val: PreparedPairs,
    test: PreparedPairs,
    seed: int,
    name: str,
    recipe: ExpertRecipe,
    max_epochs: int = 20,
    patience: int | None = 5,
    feature_epoch: int | None = None,
    forgetting_epochs: int = 10,
    on_progress: Callable[[float], None] | None = None,
) -> FullData:
    """Train one student on all pairs with the experts' recipe and return its scores at its best val epoch.

    Training ends after ``max_epochs``, or when val mean recall has not risen for ``patience`` epochs (None: never
    early). With a ``feature_epoch`` the same run leaves the coresets' evidence: features after that epoch and
    forgetting over the first ``forgetting_epochs`` (val ends it no sooner, and ``max_epochs`` cuts both short).
    """
    counter = ForgettingCounter(len(train)) if feature_epoch is not None else None
    least = max(feature_epoch or 0, forgetting_epochs) if counter else 0
    best: tuple[float, int, Params] = (-1.0, 0, {})
    features = forgetting = None
    epochs = train_expert(
        student,
        train,
        seed=seed,
        name=name,
        epochs=max_epochs,
        recipe=recipe,
        on_batch=counter,
        on_progress=on_progress,
    )
    for epoch, params in epochs:
        recall = score(student, params, val)["mean_recall"]
        best = max(best, (recall, epoch, params), key=lambda one: one[0])
        if epoch == feature_epoch:
            features = pair_embeddings(student, params, train)
        if counter is not None and epoch <= forgetting_epochs:
            forgetting = counter.forgotten.clone(), ~counter.learned
        if patience is not None and epoch >= least and epoch - best[1] >= patience:
            break
    warmup = None
    if forgetting is not None:
        images, texts = features or pair_embeddings(student, best[2], train)
        warmup = WarmupStatistics(images, texts, *forgetting)
    chosen = best[2]
    return FullData(score(student, chosen, test), score(student, chosen, val), best[1], warmup)
