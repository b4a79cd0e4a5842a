"""The protocol: rates chosen on val, one fresh student a seed, every choice repeated by hand."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from engine.evaluation.protocol import (
    Protocol,
    Scores,
    TrainingSet,
    choose_rates,
    evaluate,
    learned_rates,
    prepare_set,
    real_set,
    student_of_seed,
)
from engine.evaluation.student import METRICS, StudentRecipe, score, train_student
from engine.models.prepared import PreparedPairs
from engine.models.two_tower import TwoTower
from engine.places import Places
from engine.rng import stream
from engine.synthetic.set import SyntheticSet
from engine.tensors import MODALITIES, Params
from tests.problems import PIXELS, TEXT_FEATURES, tiny_pairs, tiny_student

CPU = torch.device("cpu")
PROTOCOL = Protocol(recipe=StudentRecipe(epochs=20, batch_size=6), seeds=3, rates=(0.1,))
TOO_SMALL, GOOD = 1e-9, 0.1


def both(rate: float) -> dict[str, float]:
    return dict.fromkeys(MODALITIES, rate)


def problem(places: Places) -> tuple[TwoTower, PreparedPairs, PreparedPairs, TrainingSet]:
    """Return a student, val and test pairs, and a set which is what val holds."""
    student = tiny_student(places, train="frozen")
    val, test = (tiny_pairs(student, captions_each=1, name=name) for name in ("val", "test"))
    return student, val, test, real_set(student, val, torch.arange(12), CPU)


def by_hand(student: TwoTower, training: TrainingSet, rates: dict[str, float], name: str, moments: int) -> list[Params]:
    path = train_student(
        student,
        student.fresh(stream(5, f"eval/{name}/init")),
        training.images,
        training.texts,
        rates=rates,
        recipe=PROTOCOL.recipe,
        generator=stream(5, f"eval/{name}/order"),
        moments=moments,
    )
    return list(path)


def same(one: Params, other: Params) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_every_seed_is_a_student_of_its_own_and_is_tested_once(places: Places) -> None:
    student, val, test, training = problem(places)
    scores = evaluate(student, training, PROTOCOL, seed=5, val=val, test=test)
    students = [by_hand(student, training, both(0.1), str(index), 1)[0] for index in range(3)]
    assert scores.seeds == [score(student, params, test) for params in students]
    assert scores.val == [score(student, params, val) for params in students]
    assert scores.rates == both(0.1)
    assert scores.val != scores.seeds
    assert len({one["mean_recall"] for one in scores.val}) > 1


def test_a_score_is_a_function_of_the_seed(places: Places) -> None:
    student, val, test, training = problem(places)
    run = partial(evaluate, student, training, PROTOCOL, val=val, test=test)
    assert run(seed=5) == run(seed=5)
    assert run(seed=5).val != run(seed=6).val


@pytest.mark.parametrize("candidates", [(TOO_SMALL, GOOD), (GOOD, TOO_SMALL)])
def test_rates_are_chosen_by_val(places: Places, candidates: tuple[float, float]) -> None:
    student, val, _, training = problem(places)
    protocol = replace(PROTOCOL, rates=candidates)
    values = [score(student, by_hand(student, training, both(rate), "choose", 1)[0], val) for rate in candidates]
    assert abs(values[0]["mean_recall"] - values[1]["mean_recall"]) > 10
    assert choose_rates(student, training, protocol, seed=5, val=val) == both(GOOD)


def test_rates_are_chosen_for_the_val_at_hand(places: Places) -> None:
    # On pairs that the set knows nothing of, an untrained student is as often the better one.
    student, _, _, training = problem(places)
    protocol = replace(PROTOCOL, rates=(TOO_SMALL, GOOD))
    students = {rate: by_hand(student, training, both(rate), "choose", 1)[0] for rate in protocol.rates}
    chosen = []
    for number in range(8):
        val = tiny_pairs(student, captions_each=1, name=f"unrelated/{number}")
        values = {rate: score(student, params, val)["mean_recall"] for rate, params in students.items()}
        chosen.append(max(values, key=values.__getitem__))
        assert choose_rates(student, training, protocol, seed=5, val=val) == both(chosen[-1])
    assert set(chosen) == {TOO_SMALL, GOOD}


def test_a_learned_rate_is_a_candidate_and_wins_ties(places: Places) -> None:
    student, val, _, training = problem(places)
    learned = {"image": 0.1, "text": 0.12}
    choose = partial(choose_rates, student, seed=5, val=val)
    assert choose(replace(training, rates=learned), replace(PROTOCOL, rates=(TOO_SMALL,))) == learned
    assert choose(replace(training, rates=both(TOO_SMALL)), replace(PROTOCOL, rates=(GOOD,))) == both(GOOD)
    assert choose(replace(training, rates=both(2e-9)), replace(PROTOCOL, rates=(TOO_SMALL, 3e-9))) == both(2e-9)


def test_a_rate_that_diverges_is_not_chosen(places: Places) -> None:
    student, val, _, training = problem(places)
    protocol = replace(PROTOCOL, rates=(1e30, GOOD))
    assert choose_rates(student, training, protocol, seed=5, val=val) == both(GOOD)


def test_best_on_val_takes_the_first_best_of_ten_moments(places: Places) -> None:
    student, _, _, training = problem(places)
    other = tiny_pairs(student, captions_each=1, name="unrelated")
    protocol = replace(PROTOCOL, select_epoch="best_on_val")
    bests = []
    for name in "abcdef":
        moments = by_hand(student, training, both(0.1), name, 10)
        assert len(moments) == 10
        values = [score(student, params, other)["mean_recall"] for params in moments]
        bests.append(values.index(max(values)))
        chosen = student_of_seed(student, training, protocol, rates=both(0.1), seed=5, name=name, judge=other)
        assert same(chosen, moments[bests[-1]])
    assert len(set(bests)) > 1
    assert min(bests) < 9


def test_last_takes_the_end_whatever_val_says(places: Places) -> None:
    student, val, _, training = problem(places)
    chosen = student_of_seed(student, training, PROTOCOL, rates=both(0.1), seed=5, name="a", judge=val)
    assert same(chosen, by_hand(student, training, both(0.1), "a", 10)[-1])


def test_mean_and_sample_standard_deviation_over_seeds() -> None:
    seeds = [{name: value + shift for shift, name in enumerate(METRICS)} for value in (10.0, 20.0, 60.0)]
    scores = Scores(seeds=seeds, val=[], rates=both(0.1))
    assert scores.mean() == pytest.approx({name: 30 + shift for shift, name in enumerate(METRICS)})
    assert scores.std() == pytest.approx(dict.fromkeys(METRICS, 700**0.5))  # (400 + 100 + 900) / 2
    one = Scores(seeds=seeds[:1], val=[], rates=both(0.1))
    assert one.std() == dict.fromkeys(METRICS, 0.0)


@pytest.mark.parametrize("train", ["frozen", "full"])
def test_a_synthetic_set_is_prepared_once_and_keeps_its_rates(places: Places, train: str) -> None:
    student, generator = tiny_student(places, train=train), stream(0, "set")
    images = 2 * torch.rand(5, 3, PIXELS, PIXELS, generator=generator) - 0.5
    texts = torch.randn(5, TEXT_FEATURES, generator=generator)
    synthetic = SyntheticSet(images, texts, {"image": 0.1, "text": 0.3})
    training = prepare_set(student, synthetic, CPU, chunk=2)
    torch.testing.assert_close(training.images, student.image.prepare(images), rtol=1e-4, atol=1e-6)
    assert torch.equal(training.texts, texts)
    assert training.rates == pytest.approx({"image": 0.1, "text": 0.3})
    assert not training.images.requires_grad
    assert not training.texts.requires_grad


def test_real_pairs_are_images_with_their_captions_and_have_no_rates(places: Places) -> None:
    student = tiny_student(places)
    pairs = tiny_pairs(student)
    training = real_set(student, pairs, torch.tensor([5, 0, 22]), CPU)
    assert torch.equal(training.images, torch.from_numpy(pairs.images[[2, 0, 11]]).float() / 255)
    assert torch.equal(training.texts, torch.from_numpy(pairs.texts[[5, 0, 22]]))
    assert training.rates is None


def test_best_on_test_takes_each_seeds_best_moment_on_the_test_split(places: Places) -> None:
    student, val, test, training = problem(places)
    scores = evaluate(student, training, replace(PROTOCOL, select_epoch="best_on_test"), seed=5, val=val, test=test)
    for index in range(3):
        moments = by_hand(student, training, both(0.1), str(index), 10)
        assert scores.seeds[index]["mean_recall"] == max(score(student, p, test)["mean_recall"] for p in moments)


def test_with_one_rate_texts_take_that_of_the_images() -> None:
    learned = {"image": 0.1, "text": 0.3}
    assert learned_rates(learned, PROTOCOL) == learned
    assert learned_rates(learned, replace(PROTOCOL, one_rate=True)) == both(0.1)


def test_students_of_a_set_are_trained_at_its_similarity_and_loss(places: Places) -> None:
    student, val, _, training = problem(places)
    run = partial(student_of_seed, student, protocol=PROTOCOL, rates=both(0.1), seed=5, name="a", judge=val)
    plain, soft = run(training), run(replace(training, loss="wbce", similarity=torch.eye(12)))
    assert not same(plain, soft)
    assert same(soft, run(replace(training, loss="wbce")))
    shifted = torch.eye(12).roll(1, dims=1)
    assert not same(soft, run(replace(training, loss="wbce", similarity=shifted)))
