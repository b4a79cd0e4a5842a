"""Training a student on a set, against hand-made steps, and scoring it."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from engine.data.prepared import PreparedPairs
from engine.evaluation.retrieval import retrieval_metrics
from engine.evaluation.student import (
    StudentRecipe,
    TrainingSet,
    embed_split,
    score,
    train_student,
)
from engine.io.paths import Paths
from engine.models.two_tower import TwoTower
from engine.recipes import rate_factor
from engine.results.row import METRICS
from engine.rng import named_generator
from engine.tensors import Params
from tests.toys import TEXT_FEATURES, tiny_pairs, tiny_student

RATES = {"image": 0.2, "text": 0.05}
RECIPE = StudentRecipe(epochs=3, batch_size=4, momentum=0.9, weight_decay=0.01)
PAIRS = 6  # two batches an epoch, the second smaller


def frozen_features(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = named_generator(0, "set")
    images, texts = (torch.randn(PAIRS, width, generator=generator, dtype=dtype) for width in (8, TEXT_FEATURES))
    return images, texts


def start_of(student: TwoTower) -> Params:
    return {name: value.double() for name, value in student.init_params(named_generator(0, "init")).items()}


def by_hand(student: TwoTower, recipe: StudentRecipe, factors: list[float]) -> list[Params]:
    """Return the parameters before and after each step: a velocity a parameter, a rate a modality."""
    images, texts = frozen_features()
    generator, path = named_generator(0, "order"), [start_of(student)]
    velocity = {name: torch.zeros_like(value) for name, value in path[0].items()}
    orders = [torch.randperm(PAIRS, generator=generator) for _ in range(recipe.epochs)]
    batches = [rows for order in orders for rows in (order[:4], order[4:])]
    for rows, factor in zip(batches, factors, strict=True):
        leaves = {name: value.clone().requires_grad_() for name, value in path[-1].items()}
        student.loss(leaves, images[rows], texts[rows]).backward()
        for name, value in leaves.items():
            gradient = value.grad + recipe.weight_decay * value.detach()
            velocity[name] = recipe.momentum * velocity[name] + gradient
        learning_rates = {name: factor * RATES[name.partition(".")[0]] for name in leaves}
        path.append({name: value - learning_rates[name] * velocity[name] for name, value in path[-1].items()})
    return path


COSINE = [0.5 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [("constant", [1.0] * 6), ("step", [1.0] * 3 + [0.1] * 3), ("cosine", COSINE)],
)
def test_equals_sgd_with_momentum_by_hand(paths: Paths, schedule: str, factors: list[float]) -> None:
    student = tiny_student(paths, train="frozen", dtype=torch.float64)
    recipe = StudentRecipe(epochs=3, batch_size=4, momentum=0.9, weight_decay=0.01, schedule=schedule)
    expected = by_hand(student, recipe, factors)
    path = train_student(
        student,
        expected[0],
        TrainingSet(*frozen_features()),
        learning_rates=RATES,
        recipe=recipe,
        generator=named_generator(0, "order"),
        eval_points=6,
    )
    for (before, after), ours in zip(pairwise(expected), path, strict=True):
        for name in before:
            update = ours[name] - before[name]
            assert update.abs().max() > 1e-7
            torch.testing.assert_close(update, after[name] - before[name], rtol=1e-8, atol=1e-14)


def test_schedules_at_their_ends_and_in_the_middle() -> None:
    assert [rate_factor("constant", done) for done in (0, 0.5, 0.99)] == [1, 1, 1]
    assert [rate_factor("step", done) for done in (0, 0.49, 0.5, 0.99)] == [1, 1, 0.1, 0.1]
    assert [rate_factor("cosine", done) for done in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])


@pytest.mark.parametrize(
    ("eval_points", "steps"),
    [(1, [6]), (2, [3, 6]), (3, [2, 4, 6]), (4, [2, 3, 5, 6]), (6, list(range(1, 7))), (10, list(range(1, 7)))],
)
def test_eval_points_are_evenly_spaced_and_end_at_the_end(paths: Paths, eval_points: int, steps: list[int]) -> None:
    student = tiny_student(paths, train="frozen", dtype=torch.float64)
    images, texts = frozen_features()
    train = partial(
        train_student, student, start_of(student), TrainingSet(images, texts), learning_rates=RATES, recipe=RECIPE
    )
    every = list(train(generator=named_generator(0, "order"), eval_points=6))
    kept = list(train(generator=named_generator(0, "order"), eval_points=eval_points))
    taken = [
        next(i for i, whole in enumerate(every, 1) if all(torch.equal(one[n], whole[n]) for n in one)) for one in kept
    ]
    assert taken == steps


def test_what_is_given_and_what_was_yielded_are_not_shared(paths: Paths) -> None:
    student = tiny_student(paths, train="frozen", dtype=torch.float64)
    start, (images, texts) = start_of(student), frozen_features()
    before = [value.clone() for value in (*start.values(), images, texts)]
    train = partial(
        train_student, student, start, TrainingSet(images, texts), learning_rates=RATES, recipe=RECIPE, eval_points=6
    )
    undisturbed = list(train(generator=named_generator(0, "order")))
    for params, expected in zip(train(generator=named_generator(0, "order")), undisturbed, strict=True):
        assert all(torch.equal(value, expected[name]) for name, value in params.items())
        assert not any(value.requires_grad for value in params.values())
        for value in params.values():
            value.zero_()  # the caller's own copy: the student goes on unmoved
    assert all(torch.equal(a, b) for a, b in zip(before, (*start.values(), images, texts), strict=True))
    assert not torch.equal(undisturbed[0]["text.head.mix.weight"], undisturbed[1]["text.head.mix.weight"])


def test_a_set_is_learned_from_pixels_too(paths: Paths) -> None:
    student = tiny_student(paths)
    pairs = tiny_pairs(student, captions_each=1)
    images, texts = torch.from_numpy(pairs.images).float() / 255, torch.from_numpy(pairs.texts)
    recipe = StudentRecipe(epochs=30, batch_size=12, schedule="step")
    start = student.init_params(named_generator(0, "init"))
    learning_rates = {"image": 0.1, "text": 0.1}
    (end,) = train_student(
        student,
        start,
        TrainingSet(images, texts),
        learning_rates=learning_rates,
        recipe=recipe,
        generator=named_generator(0, "order"),
    )
    assert student.loss(end, images, texts) < 0.8 * student.loss(start, images, texts)
    assert score(student, end, pairs)["mean_recall"] > score(student, start, pairs)["mean_recall"] + 20


@pytest.mark.parametrize("chunk", [1, 5, 1024])
@pytest.mark.parametrize("train", ["full", "frozen"])
def test_a_split_is_embedded_in_its_order(paths: Paths, train: str, chunk: int) -> None:
    student = tiny_student(paths, train=train)
    pairs, params = tiny_pairs(student), student.init_params(named_generator(0, "init"))
    images, texts = embed_split(student, params, pairs, chunk=chunk)
    pixels = torch.from_numpy(pairs.images).float() / (255 if train == "full" else 1)
    torch.testing.assert_close(images, student.image.apply(params, pixels), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(texts, student.text.apply(params, torch.from_numpy(pairs.texts)), rtol=1e-4, atol=1e-6)


def test_the_score_is_by_cosine_as_students_are_trained(paths: Paths) -> None:
    # Both images point along their captions, but the second is so long that by inner product it wins every query.
    student = tiny_student(paths, train="frozen", dtype=torch.float64)
    params = {**start_of(student)}
    params["image.head.weight"] = torch.eye(5, 8, dtype=torch.float64)
    params["image.head.bias"] = torch.zeros(5, dtype=torch.float64)
    texts = np.random.default_rng(0).normal(size=(2, TEXT_FEATURES))
    embedded = student.text.apply(params, torch.from_numpy(texts))
    images = torch.nn.functional.pad(embedded * torch.tensor([[1.0], [0.9]]), (0, 3))
    images[1] = 0.7 * images[1] + 0.7 * images[0]
    images[1] *= 100
    pairs = PreparedPairs(images.numpy(), texts, np.arange(2))
    by_length = retrieval_metrics(*embed_split(student, params, pairs), torch.arange(2))
    assert by_length["IR1"] < 100
    assert score(student, params, pairs)["IR1"] == 100


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e38])
@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_diverged_student_scores_nothing(paths: Paths, tower: str, value: float) -> None:
    student = tiny_student(paths)
    params = student.init_params(named_generator(0, "init"))
    name = {"image": "image.head.weight", "text": "text.head.norm.weight"}[tower]
    params[name] = torch.full_like(params[name], value)
    assert score(student, params, tiny_pairs(student)) == dict.fromkeys(METRICS, 0.0)


def test_training_at_an_absurd_rate_ends_in_a_score_of_nothing(paths: Paths) -> None:
    student = tiny_student(paths)
    pairs = tiny_pairs(student, captions_each=1)
    images, texts = torch.from_numpy(pairs.images).float() / 255, torch.from_numpy(pairs.texts)
    (end,) = train_student(
        student,
        student.init_params(named_generator(0, "init")),
        TrainingSet(images, texts),
        learning_rates={"image": 1e30, "text": 1e30},
        recipe=StudentRecipe(epochs=5),
        generator=named_generator(0, "order"),
    )
    assert score(student, end, pairs) == dict.fromkeys(METRICS, 0.0)
