"""The protocol: how a small set of pairs is scored, the same way for every set."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engine.data.prepared import PreparedPairs
from engine.evaluation.student import METRICS, StudentRecipe, score, train_student
from engine.losses.contrastive import LossName
from engine.models.two_tower import TwoTower
from engine.rng import named_generator
from engine.synthetic.set import SyntheticSet
from engine.tensors import MODALITIES, Modality, Params

SelectEpoch = Literal["last", "best_on_val", "best_on_test"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Fresh students, one a seed, are trained on the set; rates are chosen on val, results are reported on test.

    ``rates`` are the learning rates that every set may choose from (one for both towers); a distilled set may also
    choose those it learned. With ``select_epoch`` ``best_on_val`` a student is scored on val ten times while it trains
    and its best moment counts; with ``last`` its end does. ``best_on_test`` reproduces published numbers that were
    chosen on the split that they report. With ``shared_learning_rate`` the text side of a student takes the image
    side's learned rate, as in the base paper's code.
    """

    recipe: StudentRecipe = field(default_factory=StudentRecipe)
    seeds: int = 5
    learning_rates: Sequence[float] = (0.01, 0.03, 0.1, 0.3, 1.0)
    select_epoch: SelectEpoch = "last"
    shared_learning_rate: bool = False


@dataclass(frozen=True)
class Scores:
    """Test metrics of each seed, the val mean recall they were chosen by, and the learning rates used."""

    seeds: list[dict[str, float]]
    val: list[dict[str, float]]
    learning_rates: dict[Modality, float]

    def mean(self) -> dict[str, float]:
        """Return the mean of each test metric over seeds, in percent."""
        return {name: float(np.mean([one[name] for one in self.seeds])) for name in METRICS}

    def std(self) -> dict[str, float]:
        """Return the sample standard deviation of each test metric over seeds (0 for one seed)."""
        ddof = min(1, len(self.seeds) - 1)
        return {name: float(np.std([one[name] for one in self.seeds], ddof=ddof)) for name in METRICS}


@dataclass(frozen=True)
class TrainingSet:
    """A small set, ready to train students on: prepared images and texts, and what it has learned besides.

    ``similarity`` None is the identity; ``rates`` None says that it has learned none.
    """

    images: Float[Tensor, "n ..."]
    texts: Float[Tensor, "n ..."]
    learning_rates: dict[Modality, float] | None
    similarity: Float[Tensor, "n n"] | None = None
    loss: LossName = "info_nce"


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
    return TrainingSet(pairs.image_rows(pairs.images_of(chosen), device), texts, None)


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
    """Train the fresh student of stream ``eval/<name>`` of ``seed``; return its end or its best moment on ``judge``."""
    start = student.init_params(named_generator(seed, f"eval/{name}/init"))
    eval_points = train_student(
        student,
        start,
        training.images,
        training.texts,
        learning_rates=learning_rates,
        recipe=protocol.recipe,
        generator=named_generator(seed, f"eval/{name}/order"),
        eval_points=1 if protocol.select_epoch == "last" else 10,
        similarity=training.similarity,
        loss=training.loss,
    )
    return _best(eval_points, lambda params: score(student, params, selection_split)["mean_recall"])


def _best(eval_points: Iterator[Params], value: Callable[[Params], float]) -> Params:
    """Return the moment of the highest ``value``, which is asked for only where there is a choice."""
    candidates = list(eval_points)
    return candidates[0] if len(candidates) == 1 else max(candidates, key=value)


def learned_learning_rates(learning_rates: dict[Modality, float], protocol: Protocol) -> dict[Modality, float]:
    """Return the rates that a set has learned, as the protocol has students take them."""
    return dict.fromkeys(MODALITIES, learning_rates["image"]) if protocol.shared_learning_rate else learning_rates


def choose_learning_rates(
    student: TwoTower, training: TrainingSet, protocol: Protocol, *, seed: int, val: PreparedPairs
) -> dict[Modality, float]:
    """Return the learning rates with the highest val mean recall of one student of its own."""
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
    """Score a set under the protocol: choose rates on val, then train one student a seed and test each once.

    (``best_on_test`` tests a student at each of its moments.)
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
