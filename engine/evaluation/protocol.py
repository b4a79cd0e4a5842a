"""The protocol: how a small set of pairs is scored, the same way for every set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from engine.data.prepared import PreparedPairs
from engine.evaluation.student import StudentRecipe, TrainingSet, fresh_student, number_of_steps, score, score_each
from engine.evaluation.together import fresh_students, train_as_one
from engine.models.two_tower import TwoTower
from engine.synthetic.set import SyntheticSet
from engine.synthetic.tiles import tiles_of
from engine.tensors import MODALITIES, Modality, Params

SelectEpoch = Literal["last", "best_on_val", "best_on_test"]

EVAL_POINTS = 10
"""Points of a student, of which its best one counts."""
STEPS_BETWEEN_LOOKS = 100
"""Steps of a candidate between two looks at val, which take the time of about twenty with 5,000 captions."""
LOOKS_PAST_PEAK = 2
"""Looks in a row, below the best candidate and below its own best look, after which a candidate has lost."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Train fresh students on a set, one for each seed; choose learning rates on val and report results on test.

    Every set may choose from ``learning_rates`` (one for both towers); a distilled set may also choose those it has
    learned. ``select_epoch`` says which parameters of a student count: the last ones, or the best on val (or test) of
    ten evenly spaced points; ``best_on_test`` reproduces published numbers that were chosen on the split that they
    report. With ``shared_learning_rate`` the text side of a student takes the learned rate of the image side, as in the
    base paper's code.
    """

    recipe: StudentRecipe = field(default_factory=StudentRecipe)
    seeds: int = 5
    learning_rates: Sequence[float] = (0.01, 0.03, 0.1, 0.3, 1.0)
    select_epoch: SelectEpoch = "last"
    shared_learning_rate: bool = False


@dataclass(frozen=True)
class Scores:
    """Test metrics of each seed, val metrics of the same students, and the learning rates used.

    ``ranks`` holds for each seed the digits of ``score_each``, one for each caption of test.
    """

    seeds: list[dict[str, float]]
    val: list[dict[str, float]]
    learning_rates: dict[Modality, float]
    ranks: list[str] = field(default_factory=list)


@torch.no_grad()
def prepare_set(student: TwoTower, synthetic: SyntheticSet, device: torch.device, *, chunk: int = 128) -> TrainingSet:
    """Run the frozen image encoder on a synthetic set once."""
    tiles = synthetic.tiles
    images = tiles_of(synthetic.images.detach().to(device), tiles).flatten(0, 1)
    prepared = torch.cat([student.image.prepare(part) for part in images.split(chunk)])
    similarity = synthetic.similarity()
    return TrainingSet(
        images=prepared if tiles == 1 else prepared.unflatten(0, (-1, tiles**2)),
        texts=synthetic.texts.detach().to(device),
        learning_rates=synthetic.learning_rates(),
        similarity=None if similarity is None else similarity.detach().to(device),
        loss=synthetic.loss,
        tiles=tiles,
    )


@torch.no_grad()
def real_set(student: TwoTower, pairs: PreparedPairs, chosen: Tensor, device: torch.device) -> TrainingSet:
    """Return the real pairs ``chosen`` of a training split as a set without learned rates."""
    texts = student.text.prepare(pairs.text_rows(chosen, device))
    return TrainingSet(pairs.image_rows(pairs.images_of(chosen), device), texts)


def student_of_seed(
    student: TwoTower,
    training: TrainingSet,
    protocol: Protocol,
    *,
    learning_rates: dict[Modality, float],
    seed: int,
    name: str,
    selection_split: PreparedPairs,
) -> Params:
    """Train the fresh student of stream ``eval/<name>`` of ``seed``, and return the parameters that count.

    ``selection_split`` is read only where the protocol chooses between several points.
    """
    eval_points = 1 if protocol.select_epoch == "last" else EVAL_POINTS
    train = partial(fresh_student, student, training, learning_rates=learning_rates, recipe=protocol.recipe, seed=seed)
    points = train(stream=f"eval/{name}", eval_points=eval_points)
    if eval_points == 1:
        return next(points)
    return max(points, key=lambda params: score(student, params, selection_split)["mean_recall"])


def students_of_seeds(
    student: TwoTower,
    training: TrainingSet,
    protocol: Protocol,
    *,
    learning_rates: dict[Modality, float],
    seed: int,
    selection_split: PreparedPairs,
) -> Iterator[Params]:
    """Yield the student of each of the protocol's seeds, as ``student_of_seed`` trains it."""
    names = [str(index) for index in range(protocol.seeds)]
    if not train_as_one(student):
        one = partial(student_of_seed, student, training, protocol, learning_rates=learning_rates, seed=seed)
        yield from (one(name=name, selection_split=selection_split) for name in names)
        return
    eval_points = 1 if protocol.select_epoch == "last" else EVAL_POINTS
    streams, rates = [f"eval/{name}" for name in names], [learning_rates] * len(names)
    train = partial(fresh_students, student, training, learning_rates=rates, streams=streams, recipe=protocol.recipe)
    points = list(train(seed=seed, eval_points=eval_points))
    for each in zip(*points, strict=True):
        best = partial(score, student, pairs=selection_split)
        yield each[0] if eval_points == 1 else max(each, key=lambda params: best(params)["mean_recall"])


def learned_learning_rates(learning_rates: dict[Modality, float], protocol: Protocol) -> dict[Modality, float]:
    """Return the learning rates of students: those of the set, or that of images for both modalities."""
    return dict.fromkeys(MODALITIES, learning_rates["image"]) if protocol.shared_learning_rate else learning_rates


def choose_learning_rates(
    student: TwoTower, training: TrainingSet, protocol: Protocol, *, seed: int, val: PreparedPairs
) -> dict[Modality, float]:
    """Return the learning rates whose student has the highest val mean recall; of equal ones the first.

    At a constant rate, a student at a higher one goes about the same way in fewer steps. So low rates are tried first,
    and where one is seen to lose, because its val mean recall has passed its peak, all higher ones are left out, but
    for the rates that a set has learned. Where students are trained as one batch, all reach their end.
    """
    candidates, learned = [dict.fromkeys(MODALITIES, rate) for rate in protocol.learning_rates], None
    if training.learning_rates is not None:
        learned = learned_learning_rates(training.learning_rates, protocol)
        candidates.insert(0, learned)
    if len(candidates) == 1:
        return candidates[0]
    if train_as_one(student):
        return candidates[_best_of_all(student, training, protocol, candidates, seed=seed, val=val)]
    values, lost = [-1.0] * len(candidates), list[dict[Modality, float]]()
    for index, rates in sorted(enumerate(candidates), key=lambda one: sum(one[1].values())):
        if rates is not learned and any(all(rates[m] >= too_high[m] for m in MODALITIES) for too_high in lost):
            continue
        value = _value(student, training, protocol, rates, seed=seed, val=val, best=max(values))
        if value is None:
            lost.append(rates)
        else:
            values[index] = value
    return candidates[values.index(max(values))]


def _best_of_all(
    student: TwoTower,
    training: TrainingSet,
    protocol: Protocol,
    candidates: Sequence[dict[Modality, float]],
    *,
    seed: int,
    val: PreparedPairs,
) -> int:
    """Return the index of the candidate with the highest val mean recall, from students trained as one batch."""
    streams = ["eval/choose"] * len(candidates)
    train = partial(
        fresh_students, student, training, learning_rates=candidates, streams=streams, recipe=protocol.recipe
    )
    points = train(seed=seed, eval_points=1 if protocol.select_epoch == "last" else EVAL_POINTS)
    seen = [[score(student, params, val)["mean_recall"] for params in each] for each in points]
    values = [max(one) for one in zip(*seen, strict=True)]
    return values.index(max(values))


def _value(
    student: TwoTower,
    training: TrainingSet,
    protocol: Protocol,
    learning_rates: dict[Modality, float],
    *,
    seed: int,
    val: PreparedPairs,
    best: float,
) -> float | None:
    """Return the val mean recall of a candidate's student, or None as soon as it is seen to stay below ``best``."""
    train = partial(fresh_student, student, training, learning_rates=learning_rates, recipe=protocol.recipe)
    train = partial(train, seed=seed, stream="eval/choose")
    if protocol.select_epoch != "last":
        return max(score(student, params, val)["mean_recall"] for params in train(eval_points=EVAL_POINTS))
    # The first candidate has nothing to lose to, and where rates fall, val may rise again after its peak.
    watched = best >= 0 and protocol.recipe.schedule == "constant"
    looks = number_of_steps(len(training.images), protocol.recipe) // STEPS_BETWEEN_LOOKS if watched else 1
    value, peak, past_peak = -1.0, -1.0, 0
    for params in train(eval_points=max(1, looks)):
        value = score(student, params, val)["mean_recall"]
        past_peak = past_peak + 1 if value < min(peak, best) else 0
        if past_peak == LOOKS_PAST_PEAK:
            return None
        peak = max(peak, value)
    return value


def evaluate(
    student: TwoTower, training: TrainingSet, protocol: Protocol, *, seed: int, val: PreparedPairs, test: PreparedPairs
) -> Scores:
    """Score a set under the protocol: choose learning rates on val, then train one student a seed and test it once.

    Under ``best_on_test`` a student is tested at each of its points.
    """
    split = test if protocol.select_epoch == "best_on_test" else val
    rates = choose_learning_rates(student, training, protocol, seed=seed, val=val)
    scores = Scores(seeds=[], val=[], learning_rates=rates)
    trained = students_of_seeds(student, training, protocol, learning_rates=rates, seed=seed, selection_split=split)
    for params in trained:
        scores.val.append(score(student, params, val))
        metrics, ranks = score_each(student, params, test)
        scores.seeds.append(metrics)
        scores.ranks.append(ranks)
    return scores
