"""Students that are trained as one batch are those that are trained one after another."""

from functools import partial

import pytest
import torch

from engine.evaluation import protocol as protocol_module
from engine.evaluation.protocol import EVAL_POINTS, Protocol, evaluate, students_of_seeds
from engine.evaluation.student import StudentRecipe, TrainingSet, fresh_student, score
from engine.evaluation.together import fresh_students, train_as_one
from engine.io.paths import Paths
from engine.rng import named_generator
from engine.tensors import MODALITIES
from tests.evaluation.test_protocol import problem
from tests.evaluation.test_student import frozen_features
from tests.toys import tiny_student

RATES = [{"image": 0.2, "text": 0.05}, {"image": 0.01, "text": 0.3}, dict.fromkeys(MODALITIES, 0.1)]
STREAMS = ["one", "two", "one"]


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("loss", ["info_nce", "kl", "bce", "wbce"])
@pytest.mark.parametrize("learned", [True, False])
def test_a_batch_of_students_takes_the_steps_of_each(paths: Paths, schedule: str, loss: str, learned: bool) -> None:
    student = tiny_student(paths, train="frozen", dtype=torch.float64)
    images, texts = frozen_features()
    similarity = torch.rand(len(images), len(images), generator=named_generator(0, "target"), dtype=torch.float64)
    training = TrainingSet(images, texts, similarity=similarity if learned else None, loss=loss)
    recipe = StudentRecipe(epochs=3, batch_size=4, momentum=0.9, weight_decay=0.01, schedule=schedule)
    assert len(images) % recipe.batch_size
    shared = {"recipe": recipe, "seed": 3, "eval_points": 3}
    found = list(fresh_students(student, training, learning_rates=RATES, streams=STREAMS, **shared))
    for number, (rates, stream) in enumerate(zip(RATES, STREAMS, strict=True)):
        wanted = list(fresh_student(student, training, learning_rates=rates, stream=stream, **shared))
        assert len(wanted) == len(found) == 3
        for alone, each in zip(wanted, found, strict=True):
            assert alone.keys() == each[number].keys()
            for name, value in alone.items():
                torch.testing.assert_close(each[number][name], value, rtol=1e-9, atol=1e-12)
    ends = found[-1]
    assert any(not torch.equal(ends[0][name], ends[2][name]) for name in ends[0])  # the same start, other rates


@pytest.mark.parametrize("select_epoch", ["last", "best_on_val", "best_on_test"])
def test_scores_of_a_batch_are_those_of_one_after_another(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, select_epoch: str
) -> None:
    student, val, test, training = problem(paths)
    protocol = Protocol(
        recipe=StudentRecipe(epochs=12, batch_size=8),
        seeds=3,
        learning_rates=(1e-4, 0.1, 0.2),
        select_epoch=select_epoch,
    )
    score_set = partial(evaluate, student, training, protocol, seed=5, val=val, test=test)
    wanted = score_set()
    monkeypatch.setattr(protocol_module, "train_as_one", lambda *_: True)
    found = score_set()
    assert found.learning_rates == wanted.learning_rates
    assert found.ranks == wanted.ranks
    assert found.val == wanted.val


def test_the_best_point_of_each_student_counts(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    student, val, _, training = problem(paths)
    protocol = Protocol(recipe=StudentRecipe(epochs=12, batch_size=8), seeds=2, select_epoch="best_on_val")
    monkeypatch.setattr(protocol_module, "train_as_one", lambda *_: True)
    rates = dict.fromkeys(MODALITIES, 1.5)  # too high: the last point is not the best
    given = {"learning_rates": rates, "seed": 5}
    chosen = list(students_of_seeds(student, training, protocol, selection_split=val, **given))
    points = list(
        fresh_students(student, training, learning_rates=[rates] * 2, streams=["eval/0", "eval/1"],
                       recipe=protocol.recipe, seed=5, eval_points=EVAL_POINTS)
    )  # fmt: skip
    for number, params in enumerate(chosen):
        recalls = [score(student, each[number], val)["mean_recall"] for each in points]
        assert score(student, params, val)["mean_recall"] == max(recalls)


def test_only_heads_off_the_cpu_are_trained_as_one_batch(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen, full = (tiny_student(paths, train=train) for train in ("frozen", "full"))
    assert not train_as_one(frozen)
    monkeypatch.setattr(type(frozen), "device", torch.device("meta"))
    assert train_as_one(frozen)
    assert not train_as_one(full)
