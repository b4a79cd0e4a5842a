"""Students of the full data: the epoch chosen on val, and what they leave for coresets."""

from functools import partial

import pytest
import torch
from torch.nn.functional import normalize

from engine.evaluation.full_data import ForgettingCounter, pair_embeddings, train_on_everything
from engine.evaluation.student import embed_split, score
from engine.experts.train import ExpertRecipe, train_expert
from engine.io.paths import Paths
from engine.rng import named_generator
from tests.toys import tiny_pairs, tiny_student

RECIPE = ExpertRecipe(learning_rates={"image": 0.3, "text": 0.3}, batch_size=8)
STILL = ExpertRecipe(learning_rates={"image": 0.0, "text": 0.0}, batch_size=8)


class TestForgettingCounter:
    @staticmethod
    def told(counter: ForgettingCounter, correct: list[bool], rows: list[int]) -> None:
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
            self.told(counter, correct, [0, 1, 2, 3])
        assert counter.forgotten.tolist() == [2, 0, 0, 1]
        assert counter.learned.tolist() == [True, False, True, True]

    def test_batches_may_come_in_any_order_and_leave_pairs_out(self) -> None:
        counter = ForgettingCounter(5)
        self.told(counter, [True, True], [4, 1])
        self.told(counter, [True, False, True], [3, 0, 2])
        self.told(counter, [False, True, True], [1, 0, 3])  # 4 and 2 were dropped from this epoch
        self.told(counter, [True, False, False, True], [1, 4, 0, 3])
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


def test_pair_embeddings_repeat_an_image_for_each_of_its_captions(paths: Paths) -> None:
    student = tiny_student(paths)
    pairs, params = tiny_pairs(student), student.init_params(named_generator(0, "init"))
    images, texts = pair_embeddings(student, params, pairs)
    raw_images, raw_texts = embed_split(student, params, pairs)
    assert torch.equal(images[5], normalize(raw_images, dim=-1)[2])
    torch.testing.assert_close(texts, normalize(raw_texts, dim=-1))
    torch.testing.assert_close(images.norm(dim=1), torch.ones(24))


@pytest.mark.parametrize("name", ["full/0", "full/1", "full/2"])
def test_the_best_epoch_on_val_is_tested(paths: Paths, name: str) -> None:
    student = tiny_student(paths)
    train, val, test = (tiny_pairs(student, name=split) for split in ("data", "val", "test"))
    result = train_on_everything(
        student, train, val=val, test=test, seed=0, name=name, recipe=RECIPE, max_epochs=8, patience=None
    )
    snapshots = dict(train_expert(student, train, seed=0, name=name, epochs=8, recipe=RECIPE))
    on_val = [score(student, params, val)["mean_recall"] for params in snapshots.values()]
    assert len(set(on_val)) > 1
    assert result.epoch == on_val.index(max(on_val))
    assert result.val == score(student, snapshots[result.epoch], val)
    assert result.test == score(student, snapshots[result.epoch], test)
    assert result.warmup is None


@pytest.mark.parametrize(("patience", "epochs"), [(1, 1), (3, 3), (None, 7)])
def test_patience_ends_a_training_that_does_not_rise(paths: Paths, patience: int | None, epochs: int) -> None:
    student, told = tiny_student(paths), []
    pairs = tiny_pairs(student)
    result = train_on_everything(
        student,
        pairs,
        val=pairs,
        test=pairs,
        seed=0,
        name="full",
        recipe=STILL,
        max_epochs=7,
        patience=patience,
        on_progress=told.append,
    )
    assert told.count(1.0) == epochs
    assert result.epoch == 0


def test_patience_waits_for_the_evidence(paths: Paths) -> None:
    student, told = tiny_student(paths), []
    pairs = tiny_pairs(student)
    train_on_everything(
        student,
        pairs,
        val=pairs,
        test=pairs,
        seed=0,
        name="full",
        recipe=STILL,
        max_epochs=7,
        patience=1,
        feature_epoch=2,
        forgetting_epochs=5,
        on_progress=told.append,
    )
    assert told.count(1.0) == 5


def test_evidence_is_of_its_epochs_however_long_training_goes_on(paths: Paths) -> None:
    student = tiny_student(paths)
    train = tiny_pairs(student)
    run = partial(train_on_everything, student, train, val=train, test=train, seed=0, name="full", recipe=RECIPE)
    warmup = run(max_epochs=25, patience=None, feature_epoch=2, forgetting_epochs=4).warmup

    def counted(epochs: int) -> ForgettingCounter:
        counter = ForgettingCounter(len(train))
        list(train_expert(student, train, seed=0, name="full", epochs=epochs, recipe=RECIPE, on_batch=counter))
        return counter

    short, long = counted(4), counted(25)
    assert not torch.equal(short.forgotten, long.forgotten)
    assert torch.equal(warmup.forgetting, short.forgotten)
    assert torch.equal(warmup.never_learned, ~short.learned)
    snapshot = dict(train_expert(student, train, seed=0, name="full", epochs=2, recipe=RECIPE))[2]
    images, texts = pair_embeddings(student, snapshot, train)
    assert torch.equal(warmup.image_features, images)
    assert torch.equal(warmup.text_features, texts)


def test_asking_for_evidence_changes_no_score(paths: Paths) -> None:
    student = tiny_student(paths)
    train, val = tiny_pairs(student), tiny_pairs(student, name="val")
    run = partial(train_on_everything, student, train, val=val, test=train, seed=0, name="full", recipe=RECIPE)
    with_evidence = run(max_epochs=4, patience=None, feature_epoch=2, forgetting_epochs=3)
    without = run(max_epochs=4, patience=None)
    assert (with_evidence.epoch, with_evidence.val, with_evidence.test) == (without.epoch, without.val, without.test)
