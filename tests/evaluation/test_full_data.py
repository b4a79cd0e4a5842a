"""Students of the full data: the epoch chosen on val, and the warm-up statistics of coresets."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch

from engine.coresets import forgetting
from engine.data.prepared import PreparedPairs
from engine.evaluation import full_data
from engine.evaluation.full_data import (
    ForgettingCounter,
    FullDataRecipe,
    train_on_everything,
    unit_embeddings,
)
from engine.evaluation.student import score
from engine.experts.train import ExpertRecipe, epoch_batches, train_expert
from engine.io.paths import Paths
from engine.models.two_tower import TwoTower
from engine.rng import named_generator
from engine.tensors import Params
from tests.toys import tiny_pairs, tiny_student

RECIPE = ExpertRecipe(learning_rates={"image": 0.3, "text": 0.3}, batch_size=8)
SPLITS = {"train": "data", "val": "val", "test": "test"}
STILL = ExpertRecipe(learning_rates={"image": 0.0, "text": 0.0}, batch_size=8)


class TestForgettingCounter:
    @staticmethod
    def show(counter: ForgettingCounter, correct: list[bool], rows: list[int]) -> None:
        """Show a batch where just the pairs said to be correct are so: a wrong text points away from its image."""
        images = torch.eye(len(rows))
        signs = torch.tensor([1.0 if one else -1.0 for one in correct])
        counter(torch.tensor(rows), images, images * signs[:, None])

    def test_counts_each_fall_from_correct_to_incorrect(self) -> None:
        counter = ForgettingCounter(4)
        # pair            0      1      2      3
        sequence = [
            [True, False, True, False],
            [False, False, True, True],
            [True, False, True, True],
            [False, False, True, False],
            [False, False, True, False],
        ]
        for correct in sequence:
            self.show(counter, correct, [0, 1, 2, 3])
        assert counter.forgotten.tolist() == [2, 0, 0, 1]
        assert counter.learned.tolist() == [True, False, True, True]
        assert counter.counts()["never_learned"].tolist() == [False, True, False, False]

    def test_a_pair_in_no_batch_is_never_seen_and_not_never_learned(self) -> None:
        counter = ForgettingCounter(3)
        self.show(counter, [True, False], [0, 1])
        counts = counter.counts()
        assert counts["never_learned"].tolist() == [False, True, False]
        assert counts["never_seen"].tolist() == [False, False, True]

    def test_batches_may_come_in_any_order_and_leave_pairs_out(self) -> None:
        counter = ForgettingCounter(5)
        self.show(counter, [True, True], [4, 1])
        self.show(counter, [True, False, True], [3, 0, 2])
        self.show(counter, [False, True, True], [1, 0, 3])  # 4 and 2 were dropped from this epoch
        self.show(counter, [True, False, False, True], [1, 4, 0, 3])
        assert counter.forgotten.tolist() == [1, 1, 0, 0, 1]
        assert counter.learned.all()

    def test_both_directions_have_to_be_right(self) -> None:
        # Both texts lie near image 0: image 1 still prefers text 1, but text 1 prefers image 0.
        texts = torch.tensor([[1.0, 0.0], [0.9, 0.1]])
        counter, turned = ForgettingCounter(2), ForgettingCounter(2)
        counter(torch.tensor([0, 1]), torch.eye(2), texts)
        turned(torch.tensor([0, 1]), texts, torch.eye(2))
        assert counter.correct.tolist() == turned.correct.tolist() == [True, False]

    def test_lengths_do_not_count(self) -> None:
        counter = ForgettingCounter(2)
        counter(torch.tensor([0, 1]), torch.tensor([[1.0, 0.0], [6.0, 8.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        assert counter.correct.tolist() == [True, True]


def splits(student: TwoTower) -> dict[str, PreparedPairs]:
    return {split: tiny_pairs(student, name=name) for split, name in SPLITS.items()}


@pytest.mark.parametrize("name", ["full/0", "full/1", "full/2"])
def test_the_best_epoch_on_val_is_tested(paths: Paths, name: str) -> None:
    student = tiny_student(paths)
    pairs = splits(student)
    recipe = FullDataRecipe(training=RECIPE, max_epochs=8, patience=None)
    result = train_on_everything(student, pairs, seed=0, name=name, recipe=recipe)
    snapshots = dict(train_expert(student, pairs["train"], seed=0, name=name, epochs=8, recipe=RECIPE))
    on_val = [score(student, params, pairs["val"])["mean_recall"] for params in snapshots.values()]
    assert len(set(on_val)) > 1
    assert result.epoch == on_val.index(max(on_val))
    assert result.val == score(student, snapshots[result.epoch], pairs["val"])
    assert result.test == score(student, snapshots[result.epoch], pairs["test"])
    assert result.warmup is None


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        ({"patience": 1}, 1),
        ({"patience": 3}, 3),
        ({}, 5),
        ({"patience": None}, 7),
        ({"patience": 1, "feature_epoch": 2, "forgetting_epochs": 5}, 5),  # patience waits for the statistics
    ],
)
def test_patience_ends_a_training_that_does_not_rise(
    paths: Paths, options: dict[str, int | None], epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []

    def counted(*arguments: object, **keywords: object) -> Iterator[tuple[int, Params]]:
        for epoch, params in train_expert(*arguments, **keywords):
            taken.append(epoch)
            yield epoch, params

    monkeypatch.setattr(full_data, "train_expert", counted)
    student = tiny_student(paths)
    recipe = FullDataRecipe(training=STILL, max_epochs=7, **options)
    result = train_on_everything(student, splits(student), seed=0, name="full", recipe=recipe)
    assert taken == list(range(epochs + 1))
    assert result.epoch == 0


@pytest.mark.parametrize("captions", ["all", "one"])
def test_statistics_are_of_their_epochs_however_long_training_goes_on(paths: Paths, captions: str) -> None:
    student = tiny_student(paths)
    pairs, training = splits(student), replace(RECIPE, captions=captions)
    recipe = FullDataRecipe(training=training, max_epochs=25, patience=None, feature_epoch=2, forgetting_epochs=4)
    warmup = train_on_everything(student, pairs, seed=0, name="full", recipe=recipe).warmup
    expert = partial(train_expert, student, pairs["train"], seed=0, name="full", recipe=training)

    def counted(epochs: int) -> ForgettingCounter:
        counter = ForgettingCounter(len(pairs["train"]))
        list(expert(epochs=epochs, on_batch=counter))
        return counter

    short, long = counted(4), counted(25)
    assert not torch.equal(short.forgotten, long.forgotten)
    assert torch.equal(warmup.forgetting, short.forgotten)
    assert torch.equal(warmup.never_learned, short.seen & ~short.learned)
    assert torch.equal(warmup.never_seen, ~short.seen)
    images, texts = unit_embeddings(student, dict(expert(epochs=2))[2], pairs["train"])
    assert torch.equal(warmup.image_features, images)
    assert torch.equal(warmup.text_features, texts)
    assert warmup.caption_image.tolist() == pairs["train"].caption_image.tolist()
    assert len(warmup.image_features) == 12
    assert len(warmup) == 24


def test_pairs_that_no_batch_held_are_not_called_never_learned(paths: Paths) -> None:
    student = tiny_student(paths)
    pairs = {**splits(student), "train": tiny_pairs(student, captions_each=5)}
    training = replace(RECIPE, captions="one", batch_size=12)
    recipe = FullDataRecipe(training=training, max_epochs=4, feature_epoch=1, forgetting_epochs=4)
    warmup = train_on_everything(student, pairs, seed=0, name="full", recipe=recipe).warmup
    drawn = torch.zeros(60, dtype=torch.bool)
    for epoch in range(1, 5):
        for rows in epoch_batches(pairs["train"], training, named_generator(0, f"full/epoch/{epoch}")):
            drawn[rows] = True
    assert 12 < int((~drawn).sum()) < 60
    assert torch.equal(warmup.never_seen, ~drawn)
    assert not (warmup.never_learned & warmup.never_seen).any()
    for direction in ("ascending", "descending"):
        picks = forgetting.select(warmup, 60, named_generator(0, "coreset"), direction=direction)
        seen = drawn[picks]
        assert seen[: int(drawn.sum())].all(), "seen pairs come first in either direction"


def test_asking_for_statistics_changes_no_score(paths: Paths) -> None:
    student = tiny_student(paths)
    plain = FullDataRecipe(training=RECIPE, max_epochs=4, patience=None)
    results = [
        train_on_everything(student, splits(student), seed=0, name="full", recipe=recipe)
        for recipe in (plain, replace(plain, feature_epoch=2, forgetting_epochs=3))
    ]
    without, with_statistics = ((one.epoch, one.val, one.test) for one in results)
    assert without == with_statistics
