"""The protocol: rates chosen on val, one fresh student a seed, every choice repeated by hand."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from engine.data.prepared import PreparedPairs
from engine.evaluation import protocol as protocol_module
from engine.evaluation.protocol import (
    Protocol,
    choose_learning_rates,
    evaluate,
    learned_learning_rates,
    prepare_set,
    real_set,
    student_of_seed,
)
from engine.evaluation.student import StudentRecipe, TrainingSet, score, train_student
from engine.io.paths import Paths
from engine.models.two_tower import TwoTower
from engine.rng import named_generator
from engine.synthetic.set import SyntheticSet
from engine.tensors import MODALITIES, Params
from tests.toys import PIXELS, TEXT_FEATURES, tiny_pairs, tiny_student

CPU = torch.device("cpu")
PROTOCOL = Protocol(recipe=StudentRecipe(epochs=20, batch_size=6), seeds=3, learning_rates=(0.1,))
TOO_SMALL, GOOD = 1e-9, 0.1


def both(rate: float) -> dict[str, float]:
    return dict.fromkeys(MODALITIES, rate)


def problem(paths: Paths) -> tuple[TwoTower, PreparedPairs, PreparedPairs, TrainingSet]:
    """Return a student, val and test pairs, and a set which is what val holds."""
    student = tiny_student(paths, train="frozen")
    val, test = (tiny_pairs(student, captions_each=1, name=name) for name in ("val", "test"))
    return student, val, test, real_set(student, val, torch.arange(12), CPU)


def by_hand(
    student: TwoTower, training: TrainingSet, learning_rates: dict[str, float], name: str, eval_points: int
) -> list[Params]:
    path = train_student(
        student,
        student.init_params(named_generator(5, f"eval/{name}/init")),
        training,
        learning_rates=learning_rates,
        recipe=PROTOCOL.recipe,
        generator=named_generator(5, f"eval/{name}/order"),
        eval_points=eval_points,
    )
    return list(path)


def same(one: Params, other: Params) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_every_seed_is_a_student_of_its_own_and_is_tested_once(paths: Paths) -> None:
    student, val, test, training = problem(paths)
    scores = evaluate(student, training, PROTOCOL, seed=5, val=val, test=test)
    students = [by_hand(student, training, both(0.1), str(index), 1)[0] for index in range(3)]
    assert scores.seeds == [score(student, params, test) for params in students]
    assert scores.val == [score(student, params, val) for params in students]
    assert scores.learning_rates == both(0.1)
    assert scores.val != scores.seeds
    assert len({one["mean_recall"] for one in scores.val}) > 1


def test_a_score_is_a_function_of_the_seed(paths: Paths) -> None:
    student, val, test, training = problem(paths)
    run = partial(evaluate, student, training, PROTOCOL, val=val, test=test)
    assert run(seed=5) == run(seed=5)
    assert run(seed=5).val != run(seed=6).val


@pytest.mark.parametrize("candidates", [(TOO_SMALL, GOOD), (GOOD, TOO_SMALL)])
def test_rates_are_chosen_by_val(paths: Paths, candidates: tuple[float, float]) -> None:
    student, val, _, training = problem(paths)
    protocol = replace(PROTOCOL, learning_rates=candidates)
    values = [score(student, by_hand(student, training, both(rate), "choose", 1)[0], val) for rate in candidates]
    assert abs(values[0]["mean_recall"] - values[1]["mean_recall"]) > 10
    assert choose_learning_rates(student, training, protocol, seed=5, val=val) == both(GOOD)


def test_rates_are_chosen_for_the_val_at_hand(paths: Paths) -> None:
    # On pairs that the set knows nothing of, an untrained student is as often the better one.
    student, _, _, training = problem(paths)
    protocol = replace(PROTOCOL, learning_rates=(TOO_SMALL, GOOD))
    students = {rate: by_hand(student, training, both(rate), "choose", 1)[0] for rate in protocol.learning_rates}
    chosen = []
    for number in range(8):
        val = tiny_pairs(student, captions_each=1, name=f"unrelated/{number}")
        values = {rate: score(student, params, val)["mean_recall"] for rate, params in students.items()}
        chosen.append(max(values, key=values.__getitem__))
        assert choose_learning_rates(student, training, protocol, seed=5, val=val) == both(chosen[-1])
    assert set(chosen) == {TOO_SMALL, GOOD}


def test_a_learned_rate_is_a_candidate_and_wins_ties(paths: Paths) -> None:
    student, val, _, training = problem(paths)
    learned = {"image": 0.1, "text": 0.12}
    choose = partial(choose_learning_rates, student, seed=5, val=val)
    assert choose(replace(training, learning_rates=learned), replace(PROTOCOL, learning_rates=(TOO_SMALL,))) == learned
    assert choose(replace(training, learning_rates=both(TOO_SMALL)), replace(PROTOCOL, learning_rates=(GOOD,))) == both(
        GOOD
    )
    assert choose(
        replace(training, learning_rates=both(2e-9)), replace(PROTOCOL, learning_rates=(TOO_SMALL, 3e-9))
    ) == both(2e-9)


SEEN = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
MEASURED = {  # val mean recall of random pairs of Flickr8k after these shares of 100 epochs, heads on frozen encoders
    1000: {
        0.001: (3.91, 8.7, 14.8, 16.99, 17.96, 18.34, 18.49, 18.43, 18.48, 18.49, 18.55),
        0.003: (10.09, 16.45, 18.59, 18.46, 18.76, 18.49, 18.44, 18.28, 18.2, 18.01, 18.02),
        0.01: (17.89, 19.12, 18.71, 18.49, 18.23, 17.69, 17.61, 17.43, 17.08, 17.05, 16.88),
        0.03: (19.06, 19.26, 18.47, 18.02, 17.71, 17.27, 16.79, 16.55, 16.35, 16.19, 15.98),
        0.1: (19.26, 19.38, 18.32, 17.71, 17.21, 16.97, 16.39, 16.34, 15.93, 15.69, 15.24),
    },
    500: {
        0.001: (1.53, 3.68, 8.55, 11.0, 12.39, 13.17, 13.56, 13.74, 13.85, 13.83, 13.64),
        0.003: (4.16, 9.66, 13.57, 13.98, 13.87, 13.72, 13.65, 13.68, 13.65, 13.53, 13.41),
        0.01: (10.36, 14.04, 13.95, 13.78, 13.59, 13.37, 13.2, 13.08, 12.93, 12.84, 12.81),
        0.03: (13.98, 14.6, 13.9, 13.62, 13.5, 13.26, 13.1, 12.87, 12.76, 12.64, 12.42),
        0.1: (14.89, 14.36, 13.73, 13.57, 13.56, 13.25, 13.19, 13.04, 12.78, 12.47, 12.4),
    },
    100: {
        0.001: (0.66, 0.88, 1.75, 2.71, 3.83, 4.86, 5.39, 5.62, 5.77, 5.86, 5.93),
        0.003: (0.9, 1.83, 4.11, 5.96, 6.06, 6.24, 6.4, 6.44, 6.45, 6.48, 6.46),
        0.01: (1.87, 4.5, 6.28, 6.7, 6.92, 7.01, 7.01, 6.99, 6.93, 6.98, 6.93),
        0.03: (4.16, 6.37, 7.19, 7.39, 7.25, 7.26, 7.27, 7.25, 7.22, 7.14, 7.12),
        0.1: (6.48, 7.18, 7.26, 7.18, 7.32, 7.32, 7.32, 7.33, 7.33, 7.36, 7.35),
    },
}


@pytest.mark.parametrize(
    ("pairs", "looks"),
    [(1000, {0.001: 1, 0.003: 5}), (500, {0.001: 1, 0.003: 4, 0.01: 3}), (100, dict.fromkeys(MEASURED[100], 1))],
)
@pytest.mark.parametrize("turn", [1, -1])
def test_rates_that_lose_end_early_and_higher_ones_are_left_out(
    pairs: int, looks: dict[float, int], turn: int, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, val, *_ = problem(paths)
    curves, looked = MEASURED[pairs], dict[float, int]()

    def shares(*_: Any, learning_rates: dict[str, float], eval_points: int, **__: Any) -> Iterator[tuple[float, float]]:
        return ((learning_rates["image"], point / eval_points) for point in range(1, eval_points + 1))

    def recall(_: Any, params: tuple[float, float], __: Any) -> dict[str, float]:
        rate, done = params
        looked[rate] = looked.get(rate, 0) + 1
        return {"mean_recall": float(np.interp(done, SEEN, curves[rate]))}

    monkeypatch.setattr(protocol_module, "fresh_student", shares)
    monkeypatch.setattr(protocol_module, "score", recall)
    protocol, training = (
        Protocol(learning_rates=list(curves)[::turn]),
        TrainingSet(torch.zeros(pairs), torch.zeros(pairs)),
    )
    chosen = choose_learning_rates(student, training, protocol, seed=0, val=val)
    assert chosen == both(max(curves, key=lambda rate: curves[rate][-1]))
    assert looked == looks
    looked.clear()
    falling = replace(protocol, recipe=StudentRecipe(schedule="cosine"))
    assert choose_learning_rates(student, training, falling, seed=0, val=val) == chosen
    assert looked == dict.fromkeys(curves, 1)


def test_the_early_end_changes_no_choice_among_students_that_learn_by_heart(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, random = tiny_student(paths, train="frozen"), np.random.default_rng(0)
    mixing, protocol = random.normal(size=(3, 8)), replace(PROTOCOL, learning_rates=(0.01, 0.1, 0.3, 1.0))

    def drawn(number: int) -> PreparedPairs:
        texts = random.normal(size=(number, TEXT_FEATURES))
        images = texts[:, :3] @ mixing + 2 * random.normal(size=(number, 8))
        return PreparedPairs(images.astype(np.float32), texts.astype(np.float32), np.arange(number))

    training, val = real_set(student, drawn(24), torch.arange(24), CPU), drawn(200)
    trained, fresh = list[float](), protocol_module.fresh_student

    def counted(*given: Any, learning_rates: dict[str, float], **options: Any) -> Iterator[Params]:
        for params in fresh(*given, learning_rates=learning_rates, **options):
            trained.append(learning_rates["image"])
            yield params

    monkeypatch.setattr(protocol_module, "fresh_student", counted)
    choose = partial(choose_learning_rates, student, training, protocol, seed=5, val=val)
    whole = choose()
    assert trained == list(protocol.learning_rates)
    monkeypatch.setattr(protocol_module, "STEPS_BETWEEN_LOOKS", 10)
    trained.clear()
    assert choose() == whole
    assert len(trained) < 1 + 3 * 8


def test_a_rate_that_diverges_is_not_chosen(paths: Paths) -> None:
    student, val, _, training = problem(paths)
    protocol = replace(PROTOCOL, learning_rates=(1e30, GOOD))
    assert choose_learning_rates(student, training, protocol, seed=5, val=val) == both(GOOD)


def test_best_on_val_takes_the_first_best_of_ten_moments(paths: Paths) -> None:
    student, _, _, training = problem(paths)
    other = tiny_pairs(student, captions_each=1, name="unrelated")
    protocol = replace(PROTOCOL, select_epoch="best_on_val")
    bests = []
    for name in "abcdef":
        eval_points = by_hand(student, training, both(0.1), name, 10)
        assert len(eval_points) == 10
        values = [score(student, params, other)["mean_recall"] for params in eval_points]
        bests.append(values.index(max(values)))
        chosen = student_of_seed(
            student, training, protocol, learning_rates=both(0.1), seed=5, name=name, selection_split=other
        )
        assert same(chosen, eval_points[bests[-1]])
    assert len(set(bests)) > 1
    assert min(bests) < 9


def test_last_takes_the_end_whatever_val_says(paths: Paths) -> None:
    student, val, _, training = problem(paths)
    chosen = student_of_seed(
        student, training, PROTOCOL, learning_rates=both(0.1), seed=5, name="a", selection_split=val
    )
    assert same(chosen, by_hand(student, training, both(0.1), "a", 10)[-1])


@pytest.mark.parametrize("train", ["frozen", "full"])
def test_a_synthetic_set_is_prepared_once_and_keeps_its_rates(paths: Paths, train: str) -> None:
    student, generator = tiny_student(paths, train=train), named_generator(0, "set")
    images = 2 * torch.rand(5, 3, PIXELS, PIXELS, generator=generator) - 0.5
    texts = torch.randn(5, TEXT_FEATURES, generator=generator)
    synthetic = SyntheticSet(images, texts, {"image": 0.1, "text": 0.3})
    training = prepare_set(student, synthetic, CPU, chunk=2)
    torch.testing.assert_close(training.images, student.image.prepare(images), rtol=1e-4, atol=1e-6)
    assert torch.equal(training.texts, texts)
    assert training.learning_rates == pytest.approx({"image": 0.1, "text": 0.3})
    assert not training.images.requires_grad
    assert not training.texts.requires_grad


def test_real_pairs_are_images_with_their_captions_and_have_no_rates(paths: Paths) -> None:
    student = tiny_student(paths)
    pairs = tiny_pairs(student)
    training = real_set(student, pairs, torch.tensor([5, 0, 22]), CPU)
    assert torch.equal(training.images, torch.from_numpy(pairs.images[[2, 0, 11]]).float() / 255)
    assert torch.equal(training.texts, torch.from_numpy(pairs.texts[[5, 0, 22]]))
    assert training.learning_rates is None


def test_best_on_test_takes_each_seeds_best_moment_on_the_test_split(paths: Paths) -> None:
    student, val, test, training = problem(paths)
    scores = evaluate(student, training, replace(PROTOCOL, select_epoch="best_on_test"), seed=5, val=val, test=test)
    for index in range(3):
        eval_points = by_hand(student, training, both(0.1), str(index), 10)
        assert scores.seeds[index]["mean_recall"] == max(score(student, p, test)["mean_recall"] for p in eval_points)


def test_with_shared_learning_rate_texts_take_that_of_the_images() -> None:
    learned = {"image": 0.1, "text": 0.3}
    assert learned_learning_rates(learned, PROTOCOL) == learned
    assert learned_learning_rates(learned, replace(PROTOCOL, shared_learning_rate=True)) == both(0.1)


def test_students_of_a_set_are_trained_at_its_similarity_and_loss(paths: Paths) -> None:
    student, val, _, training = problem(paths)
    run = partial(
        student_of_seed, student, protocol=PROTOCOL, learning_rates=both(0.1), seed=5, name="a", selection_split=val
    )
    plain, soft = run(training), run(replace(training, loss="wbce", similarity=torch.eye(12)))
    assert not same(plain, soft)
    assert same(soft, run(replace(training, loss="wbce")))
    shifted = torch.eye(12).roll(1, dims=1)
    assert not same(soft, run(replace(training, loss="wbce", similarity=shifted)))
