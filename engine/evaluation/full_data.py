"""Train students on all real pairs: the reference of distilled sets, and the warm-up that coresets choose by."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from engine.coresets import WarmupStatistics, compact
from engine.data.prepared import PreparedPairs
from engine.evaluation.student import embed_split, score, score_each
from engine.experts.train import ExpertRecipe, train_expert
from engine.losses.contrastive import similarities
from engine.models.two_tower import TwoTower
from engine.tensors import Params


@dataclass(frozen=True, kw_only=True)
class FullDataRecipe:
    """How a student is trained on all pairs, and when warm-up statistics are taken.

    Training ends after ``max_epochs``, or when val mean recall has not risen for ``patience`` epochs (None: never
    early). With a ``feature_epoch`` the run also yields warm-up statistics: features after that epoch and forgetting
    over the first ``forgetting_epochs``. Patience does not end it before both, but ``max_epochs`` does.
    """

    training: ExpertRecipe = field(default_factory=ExpertRecipe)
    max_epochs: int = 20
    patience: int | None = 5
    feature_epoch: int | None = None
    forgetting_epochs: int = 10


@dataclass(frozen=True)
class FullData:
    """Test and val metrics of one student of all real pairs, at the epoch with the best val mean recall.

    ``ranks`` are the digits of ``score_each``, one for each caption of test.
    """

    test: dict[str, float]
    val: dict[str, float]
    epoch: int
    warmup: WarmupStatistics | None
    ranks: str = ""


class ForgettingCounter:
    """Count, over the epochs of a training run, how often each pair goes from correct to incorrect.

    A pair is correct when it ranks first of its batch in both directions (arXiv 2605.23482, S3.5.2).
    """

    def __init__(self, num_pairs: int) -> None:
        self.correct, self.learned, self.seen = torch.zeros(3, num_pairs, dtype=torch.bool)
        self.forgotten = torch.zeros(num_pairs, dtype=torch.int64)

    def __call__(self, rows: Int64[Tensor, " b"], images: Tensor, texts: Tensor) -> None:
        """Count one batch, from its pairs and the embeddings of both sides."""
        scores = similarities(images, texts).cpu()
        own = torch.arange(len(rows))
        correct = (scores.argmax(dim=0) == own) & (scores.argmax(dim=1) == own)
        self.forgotten[rows] += (self.correct[rows] & ~correct).long()
        self.correct[rows] = correct
        self.learned[rows] |= correct
        self.seen[rows] = True

    def counts(self) -> dict[str, Int64[Tensor, " m"] | Bool[Tensor, " m"]]:
        """Return copies of the counts, under the names of ``WarmupStatistics``."""
        never_learned = self.seen & ~self.learned
        return {"forgetting": self.forgotten.clone(), "never_learned": never_learned, "never_seen": ~self.seen}


def unit_embeddings(
    student: TwoTower, params: Params, pairs: PreparedPairs
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Return the L2-normalised embeddings of all images and all captions of a split, on the CPU."""
    images, texts = (normalize(side, dim=-1).cpu() for side in embed_split(student, params, pairs))
    return images, texts


def train_on_everything(
    student: TwoTower, splits: Mapping[str, PreparedPairs], *, seed: int, name: str, recipe: FullDataRecipe
) -> FullData:
    """Train one student on all pairs of ``train`` and return its scores at the epoch that is best on ``val``.

    ``splits`` holds ``train``, ``val`` and ``test``. Random streams of ``seed`` are named after ``name``, as those of
    an expert are. Asking for warm-up statistics changes no score.
    """
    train, val = splits["train"], splits["val"]
    counter = ForgettingCounter(len(train)) if recipe.feature_epoch is not None else None
    least = max(recipe.feature_epoch or 0, recipe.forgetting_epochs) if counter else 0
    best: tuple[float, int, Params] = (-1.0, 0, {})
    features = counts = warmup = None
    for epoch, params in train_expert(
        student, train, seed=seed, name=name, epochs=recipe.max_epochs, recipe=recipe.training, on_batch=counter
    ):
        best = max(best, (score(student, params, val)["mean_recall"], epoch, params), key=lambda one: one[0])
        if epoch == recipe.feature_epoch:
            features = unit_embeddings(student, params, train)
        if counter is not None and epoch <= recipe.forgetting_epochs:
            counts = counter.counts()
        if recipe.patience is not None and epoch >= least and epoch - best[1] >= recipe.patience:
            break
    _, epoch, chosen = best
    if counts is not None:
        images, texts = features or unit_embeddings(student, chosen, train)
        warmup = WarmupStatistics(*compact(images, texts), torch.from_numpy(train.caption_image), **counts)
    test, ranks = score_each(student, chosen, splits["test"])
    return FullData(test, score(student, chosen, val), epoch, warmup, ranks)
