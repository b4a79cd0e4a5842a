"""Train several fresh students on one set as one batch, where their steps are bound by launches."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from engine.evaluation.student import TrainingSet, number_of_steps
from engine.models.two_tower import TwoTower
from engine.recipes import StudentRecipe, rate_factor
from engine.rng import named_generator
from engine.tensors import Modality, Params, modality_of


def train_as_one(student: TwoTower) -> bool:
    """Return whether students are trained as one batch: heads alone, on another device than the CPU.

    A step of heads is some dozens of small kernels, which take about as long for ten students as for one. CPUs
    train one after another, for which candidates may end early.
    """
    heads = student.image.only_head and student.text.only_head
    return heads and student.device.type != "cpu"


def fresh_students(
    student: TwoTower,
    training: TrainingSet,
    *,
    learning_rates: Sequence[dict[Modality, float]],
    streams: Sequence[str],
    recipe: StudentRecipe,
    seed: int,
    eval_points: int = 1,
) -> Iterator[list[Params]]:
    """Train one student for each of ``learning_rates`` and ``streams`` at once; yield all at each of ``eval_points``.

    Each has the start and the batches that ``fresh_student`` gives it, and takes the same steps but for roundings.
    """
    starts = [student.init_params(named_generator(seed, f"{stream}/init")) for stream in streams]
    orders = [named_generator(seed, f"{stream}/order") for stream in streams]
    params = {name: torch.stack([start[name] for start in starts]).requires_grad_() for name in starts[0]}
    rates = {name: _column(learning_rates, modality_of(name), value) for name, value in params.items()}
    optimiser = torch.optim.SGD(params.values(), lr=1.0, momentum=recipe.momentum, fused=True)
    size, total = len(training.images), number_of_steps(len(training.images), recipe)
    losses = torch.vmap(partial(student.loss, loss=training.loss))
    if training.similarity is not None:
        losses = torch.vmap(lambda *given: student.loss(*given[:3], similarity=given[3], loss=training.loss))
    steps_per_epoch = total // recipe.epochs
    for step in range(total):
        if step % steps_per_epoch == 0:
            drawn = torch.stack([torch.randperm(size, generator=order) for order in orders])
            batches = drawn.to(training.images.device).split(recipe.batch_size, dim=1)
        rows = batches[step % steps_per_epoch]
        target = [] if training.similarity is None else [training.similarity[rows[:, :, None], rows[:, None, :]]]
        optimiser.zero_grad()
        losses(params, _images(training, rows, orders), training.texts[rows], *target).sum().backward()
        optimiser.param_groups[0]["lr"] = rate_factor(recipe.schedule, step / total)
        for name, value in params.items():  # a student's own rate is a factor on its gradient
            assert value.grad is not None
            value.grad.add_(value.detach(), alpha=recipe.weight_decay).mul_(rates[name])
        optimiser.step()
        if (step + 1) * eval_points // total > step * eval_points // total:
            yield [
                {name: value[number].detach().clone() for name, value in params.items()}
                for number in range(len(starts))
            ]


def _images(
    training: TrainingSet, rows: Int64[Tensor, "s b"], orders: Sequence[torch.Generator]
) -> Float[Tensor, "s b ..."]:
    """Return the images of each student's batch, of mosaics the tiles that its own generator draws."""
    drawn = [training.tiles_for(one, order) for one, order in zip(rows, orders, strict=True)]
    tiles = [one for one in drawn if one is not None]
    return training.images[rows, torch.stack(tiles)] if tiles else training.images[rows]


def _column(learning_rates: Sequence[dict[Modality, float]], modality: Modality, like: Tensor) -> Tensor:
    """Return a modality's rates as a tensor that multiplies each student's part of ``like``."""
    rates = torch.tensor([one[modality] for one in learning_rates], dtype=like.dtype)
    return rates.to(like.device).view(-1, *[1] * (like.ndim - 1))
