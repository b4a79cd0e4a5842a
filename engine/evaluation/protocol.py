"""The protocol: how a small set of pairs is scored, the same way for every set."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from engine.data.prepared import PreparedPairs
from engine.evaluation.student import StudentRecipe, TrainingSet, score, train_student
from engine.models.two_tower import TwoTower
from engine.rng import named_generator
from engine.synthetic.set import SyntheticSet
from engine.tensors import MODALITIES, Modality, Params

SelectEpoch = Literal["last", "best_on_val", "best_on_test"]


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
    """Test metrics of each seed, val metrics of the same students, and the learning rates used."""

    seeds: list[dict[str, float]]
    val: list[dict[str, float]]
    learning_rates: dict[Modality, float]


@torch.no_grad()
def prepare_set(student: TwoTower, synthetic: SyntheticSet, device: torch.device, *, chunk: int = 128) -> TrainingSet:
    """Run the frozen image encoder on a synthetic set once."""
    prepared = [student.image.prepare(part) for part in synthetic.images.detach().to(device).split(chunk)]
    similarity = synthetic.similarity()
    return TrainingSet(
        images=torch.cat(prepared),
        texts=synthetic.texts.detach().to(device),
        learning_rates=synthetic.learning_rates(),
        similarity=None if similarity is None else similarity.detach().to(device),
        loss=synthetic.loss,
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
    candidates = list(
        train_student(
            student,
            student.init_params(named_generator(seed, f"eval/{name}/init")),
            training,
            learning_rates=learning_rates,
            recipe=protocol.recipe,
            generator=named_generator(seed, f"eval/{name}/order"),
            eval_points=1 if protocol.select_epoch == "last" else 10,
        )
    )
    if len(candidates) == 1:
        return candidates[0]
    return max(candidates, key=lambda params: score(student, params, selection_split)["mean_recall"])


def learned_learning_rates(learning_rates: dict[Modality, float], protocol: Protocol) -> dict[Modality, float]:
    """Return the learning rates that students take of those that a set has learned."""
    return dict.fromkeys(MODALITIES, learning_rates["image"]) if protocol.shared_learning_rate else learning_rates


def choose_learning_rates(
    student: TwoTower, training: TrainingSet, protocol: Protocol, *, seed: int, val: PreparedPairs
) -> dict[Modality, float]:
    """Return the learning rates whose student has the highest val mean recall; of equal ones the first."""
    candidates = [dict.fromkeys(MODALITIES, rate) for rate in protocol.learning_rates]
    if training.learning_rates is not None:
        candidates.insert(0, learned_learning_rates(training.learning_rates, protocol))
    if len(candidates) == 1:
        return candidates[0]

    def value(learning_rates: dict[Modality, float]) -> float:
        params = student_of_seed(
            student, training, protocol, learning_rates=learning_rates, seed=seed, name="choose", selection_split=val
        )
        return score(student, params, val)["mean_recall"]

    return max(candidates, key=value)


def evaluate(
    student: TwoTower,
    training: TrainingSet,
    protocol: Protocol,
    *,
    seed: int,
    val: PreparedPairs,
    test: PreparedPairs,
) -> Scores:
    """Score a set under the protocol: choose learning rates on val, then train one student a seed and test it once.

    Under ``best_on_test`` a student is tested at each of its points.
    """
    selection_split = test if protocol.select_epoch == "best_on_test" else val
    learning_rates = choose_learning_rates(student, training, protocol, seed=seed, val=val)
    scores = Scores(seeds=[], val=[], learning_rates=learning_rates)
    for index in range(protocol.seeds):
        params = student_of_seed(
            student,
            training,
            protocol,
            learning_rates=learning_rates,
            seed=seed,
            name=str(index),
            selection_split=selection_split,
        )
        scores.val.append(score(student, params, val))
        scores.seeds.append(score(student, params, test))
    return scores
