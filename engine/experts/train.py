"""Training of students on real pairs with plain SGD: experts, and all other students of real pairs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from engine.data.augmentation import augment
from engine.data.pairs import one_an_image
from engine.data.prepared import PreparedPairs
from engine.models.two_tower import TwoTower
from engine.rng import named_generator
from engine.tensors import MODALITIES, Modality, Params, sgd_groups

Captions = Literal["all", "one"]
OnBatch = Callable[[Int64[Tensor, " b"], Tensor, Tensor], None]
"""Called before a step with the pairs of its batch and the embeddings of both sides (detached)."""


@dataclass(frozen=True, kw_only=True)
class ExpertRecipe:
    """How an expert is trained: SGD without momentum, which students imitate most easily (arXiv 2203.11932)."""

    learning_rates: Mapping[Modality, float] = field(default_factory=lambda: dict.fromkeys(MODALITIES, 0.1))
    batch_size: int = 128
    weight_decay: float = 0.0
    augmentation: str = "none"
    captions: Captions = "all"
    """The pairs of an epoch: all of them, or every image once with one of its captions, drawn in each epoch."""


def epoch_batches(pairs: PreparedPairs, recipe: ExpertRecipe, generator: torch.Generator) -> list[Int64[Tensor, " b"]]:
    """Return one epoch's shuffled batches of pair indices; a last, smaller one is dropped unless it is the only one.

    With all captions, as in published code, a batch may hold two captions of one image, which then are negatives of
    each other. With one caption per image it holds no image twice.
    """
    order, batch_size = torch.randperm(len(pairs), generator=generator), recipe.batch_size
    if recipe.captions == "one":
        order = one_an_image(pairs.caption_image, order)
    batches = order.split(batch_size)
    return list(batches[:-1] if len(batches) > 1 and len(batches[-1]) < batch_size else batches)


def train_epoch(
    student: TwoTower,
    params: Params,
    pairs: PreparedPairs,
    *,
    recipe: ExpertRecipe,
    generator: torch.Generator,
    on_batch: OnBatch | None = None,
    on_progress: Callable[[float], None] | None = None,
    on_loss: Callable[[float], None] | None = None,
) -> Params:
    """Return the parameters after one epoch over all ``pairs``; ``params`` is not changed.

    ``on_progress`` is called after each batch with the completed fraction of the epoch, and ``on_loss`` at its end with
    the mean loss over its batches.
    """
    device = next(iter(params.values())).device
    params = {name: value.clone().requires_grad_() for name, value in params.items()}
    optimiser = torch.optim.SGD(sgd_groups(params, recipe.learning_rates), lr=0.0, weight_decay=recipe.weight_decay)
    batches, losses = epoch_batches(pairs, recipe, generator), list[Tensor]()
    for done, rows in enumerate(batches, start=1):
        images = pairs.image_rows(pairs.images_of(rows), device)
        if images.ndim == 4:
            images = augment(images, recipe.augmentation, generator)
        texts = student.text.prepare(pairs.text_rows(rows, device))
        embedded = student.image.apply(params, images), student.text.apply(params, texts)
        if on_batch is not None:
            on_batch(rows, embedded[0].detach(), embedded[1].detach())
        optimiser.zero_grad()
        loss = student.contrastive_loss(*embedded)
        loss.backward()
        losses.append(loss.detach())
        optimiser.step()
        if on_progress is not None:
            on_progress(done / len(batches))
    if on_loss is not None:
        on_loss(torch.stack(losses).mean().item())
    return {name: value.detach() for name, value in params.items()}


def train_expert(
    student: TwoTower,
    pairs: PreparedPairs,
    *,
    seed: int,
    name: str,
    epochs: int,
    recipe: ExpertRecipe | None = None,
    resume: tuple[int, Params] | None = None,
    on_batch: OnBatch | None = None,
    on_progress: Callable[[float], None] | None = None,
    on_loss: Callable[[float], None] | None = None,
) -> Iterator[tuple[int, Params]]:
    """Yield ``(epoch, parameters)`` of an expert, from epoch 0 (its initial parameters) on.

    Every epoch has the generator named ``<name>/epoch/<number>`` of ``seed``, so that an expert resumed from a snapshot
    (``resume``, which is not yielded again) continues bitwise as if it had never stopped.
    """
    start, params = resume or (0, student.init_params(named_generator(seed, f"{name}/init")))
    if resume is None:
        yield 0, params
    for epoch in range(start + 1, epochs + 1):
        params = train_epoch(
            student,
            params,
            pairs,
            recipe=recipe or ExpertRecipe(),
            generator=named_generator(seed, f"{name}/epoch/{epoch}"),
            on_batch=on_batch,
            on_progress=on_progress,
            on_loss=on_loss,
        )
        yield epoch, params
