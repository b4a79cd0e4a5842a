"""Train a fresh student on a small set of pairs, and score a student on a split."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from engine.data.prepared import PreparedPairs
from engine.evaluation.retrieval import CUTOFFS, recalls_of, retrieval_ranks
from engine.losses.contrastive import LossName
from engine.models.two_tower import TwoTower
from engine.recipes import StudentRecipe, rate_factor
from engine.rng import named_generator
from engine.tensors import MODALITIES, Modality, Params, sgd_groups


@dataclass(frozen=True)
class TrainingSet:
    """A small set to train students on: prepared images and texts, and what was learned with them.

    ``learning_rates`` is None where none were learned, and ``similarity`` is None for the identity. With ``tiles``
    above 1, ``images`` has all tiles of each image, [n, tiles x tiles, ...], of which an epoch sees one.
    """

    images: Float[Tensor, "n ..."]
    texts: Float[Tensor, "n ..."]
    learning_rates: dict[Modality, float] | None = None
    similarity: Float[Tensor, "n n"] | None = None
    loss: LossName = "info_nce"
    tiles: int = 1

    def tiles_for(self, rows: Int64[Tensor, " b"], generator: torch.Generator) -> Int64[Tensor, " b"] | None:
        """Draw the tile of each image of a batch; None where images are whole. ``generator`` lives on the CPU."""
        if self.tiles == 1:
            return None
        return torch.randint(self.tiles**2, rows.shape, generator=generator).to(rows.device)


def number_of_steps(pairs: int, recipe: StudentRecipe) -> int:
    """Return the number of steps that a student of a set of ``pairs`` takes."""
    return recipe.epochs * math.ceil(pairs / recipe.batch_size)


def train_student(
    student: TwoTower,
    params: Params,
    training: TrainingSet,
    *,
    learning_rates: dict[Modality, float],
    recipe: StudentRecipe,
    generator: torch.Generator,
    eval_points: int = 1,
) -> Iterator[Params]:
    """Train a student on a set and yield copies of its parameters at evenly spaced ``eval_points``, the end last.

    ``params`` is not changed. Batches of an epoch cover all pairs; where they do not divide evenly, the last one is
    smaller. ``learning_rates`` are used whatever rates the set has learned.
    """
    params = {name: value.clone().requires_grad_() for name, value in params.items()}
    groups = sgd_groups(params, learning_rates)
    optimiser = torch.optim.SGD(groups, lr=0.0, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True)
    size, device = len(training.images), training.images.device
    total = number_of_steps(size, recipe)
    steps_per_epoch = total // recipe.epochs
    for step in range(total):
        if step % steps_per_epoch == 0:
            batches = torch.randperm(size, generator=generator).to(device).split(recipe.batch_size)
        for entry, modality in zip(optimiser.param_groups, MODALITIES, strict=True):
            entry["lr"] = learning_rates[modality] * rate_factor(recipe.schedule, step / total)
        rows = batches[step % steps_per_epoch]
        target = None if training.similarity is None else training.similarity[rows][:, rows]
        tiles = training.tiles_for(rows, generator)
        images = training.images[rows] if tiles is None else training.images[rows, tiles]
        texts = training.texts[rows]
        optimiser.zero_grad()
        student.loss(params, images, texts, similarity=target, loss=training.loss).backward()
        optimiser.step()
        if (step + 1) * eval_points // total > step * eval_points // total:
            yield {name: value.detach().clone() for name, value in params.items()}


def fresh_student(
    student: TwoTower,
    training: TrainingSet,
    *,
    learning_rates: dict[Modality, float],
    recipe: StudentRecipe,
    seed: int,
    stream: str,
    eval_points: int = 1,
) -> Iterator[Params]:
    """Train a student as ``train_student`` does; stream ``stream`` of ``seed`` draws its parameters and its batches."""
    params = student.init_params(named_generator(seed, f"{stream}/init"))
    order = named_generator(seed, f"{stream}/order")
    return train_student(
        student,
        params,
        training,
        learning_rates=learning_rates,
        recipe=recipe,
        generator=order,
        eval_points=eval_points,
    )


@torch.no_grad()
def embed_split(
    student: TwoTower, params: Params, pairs: PreparedPairs, *, chunk: int = 256
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Return the embeddings of all images and all captions of a split."""
    device = next(iter(params.values())).device
    image_rows, text_rows = torch.arange(len(pairs.images)), torch.arange(len(pairs.texts))
    images = [student.image.apply(params, pairs.image_rows(rows, device)) for rows in image_rows.split(chunk)]
    prepared = (student.text.prepare(pairs.text_rows(rows, device)) for rows in text_rows.split(chunk))
    texts = [student.text.apply(params, part) for part in prepared]
    return torch.cat(images), torch.cat(texts)


def score(student: TwoTower, params: Params, pairs: PreparedPairs) -> dict[str, float]:
    """Return the retrieval metrics of a student on a split by cosine, in percent; all zero if it has diverged."""
    return score_each(student, params, pairs)[0]


def score_each(student: TwoTower, params: Params, pairs: PreparedPairs) -> tuple[dict[str, float], str]:
    """Return what ``score`` does, and a digit for each caption: the number of cutoffs that its rank misses.

    0: its image is the first; 1 and 2: among the first five and ten; 3: it is not found.
    """
    images, texts = embed_split(student, params, pairs)
    if images.isfinite().all() and texts.isfinite().all():
        caption_image = torch.from_numpy(pairs.caption_image).to(images.device)
        ranks = retrieval_ranks(normalize(images, dim=-1), normalize(texts, dim=-1), caption_image)
    else:
        ranks = {"IR": torch.full((len(texts),), CUTOFFS[-1]), "TR": torch.full((len(images),), CUTOFFS[-1])}
    missed = torch.stack([ranks["IR"] >= k for k in CUTOFFS]).sum(dim=0)
    return recalls_of(ranks), "".join(map(str, missed.tolist()))
