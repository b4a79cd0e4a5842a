"""Training experts: by hand, resumed, and without touching what is given."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from engine.data.prepared import PreparedPairs
from engine.experts.store import ExpertStore
from engine.experts.train import ExpertRecipe, epoch_batches, train_epoch, train_expert
from engine.io.paths import Paths
from engine.models.two_tower import TwoTower
from engine.rng import named_generator
from engine.tensors import Params, sgd_groups
from tests.toys import TEXT_FEATURES, tiny_pairs, tiny_student

RECIPE = ExpertRecipe(learning_rates={"image": 0.3, "text": 0.05}, batch_size=8)


def copied(params: Params) -> Params:
    return {name: value.clone() for name, value in params.items()}


def same(one: Params, other: Params) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def captioned(images: int, each: int) -> PreparedPairs:
    owners = np.random.default_rng(0).permutation(np.repeat(np.arange(images), each))
    return PreparedPairs(np.zeros((images, 2), np.float32), np.zeros((len(owners), 2), np.float32), owners)


def features_in_float64(count: int = 10) -> PreparedPairs:
    generator = named_generator(0, "pairs")
    images = torch.randn(count, 8, generator=generator, dtype=torch.float64)
    texts = torch.randn(count, TEXT_FEATURES, generator=generator, dtype=torch.float64)
    return PreparedPairs(images.numpy(), texts.numpy(), np.arange(count))


class TestBatches:
    def test_an_epoch_covers_every_pair_once(self) -> None:
        batches = epoch_batches(captioned(8, 3), replace(RECIPE, batch_size=6), named_generator(0, "x"))
        assert [len(rows) for rows in batches] == [6] * 4
        assert sorted(torch.cat(batches).tolist()) == list(range(24))

    def test_a_smaller_last_batch_is_dropped_unless_it_is_the_only_one(self) -> None:
        pairs = captioned(8, 3)
        assert [
            len(rows) for rows in epoch_batches(pairs, replace(RECIPE, batch_size=10), named_generator(0, "x"))
        ] == [10, 10]
        assert [
            len(rows) for rows in epoch_batches(pairs, replace(RECIPE, batch_size=99), named_generator(0, "x"))
        ] == [24]

    @pytest.mark.parametrize("captions", ["all", "one"])
    def test_the_dropped_images_are_others_every_epoch(self, captions: str) -> None:
        pairs, recipe = captioned(16, 1), replace(RECIPE, batch_size=5, captions=captions)
        epochs = [torch.cat(epoch_batches(pairs, recipe, named_generator(0, str(epoch)))) for epoch in range(40)]
        dropped = {(set(range(16)) - set(pairs.images_of(rows).tolist())).pop() for rows in epochs}
        assert len(dropped) > 8

    @pytest.mark.parametrize("batch_size", [3, 7, 8, 100])
    def test_with_one_caption_no_epoch_holds_an_image_twice(self, batch_size: int) -> None:
        pairs, recipe = captioned(14, 5), replace(RECIPE, batch_size=batch_size, captions="one")
        for epoch in range(20):
            batches = epoch_batches(pairs, recipe, named_generator(0, str(epoch)))
            images = torch.cat([pairs.images_of(rows) for rows in batches]).tolist()
            assert len(images) == len(set(images)) == (14 if batch_size >= 14 else 14 // batch_size * batch_size)

    def test_with_one_caption_every_caption_has_its_turn(self) -> None:
        pairs, recipe = captioned(4, 3), replace(RECIPE, batch_size=4, captions="one")
        turns = torch.cat([epoch_batches(pairs, recipe, named_generator(0, str(epoch)))[0] for epoch in range(200)])
        assert torch.bincount(turns, minlength=12).min() > 40  # of 200 epochs: 67 expected, standard deviation 6.7

    def test_with_all_captions_an_image_may_be_its_own_negative(self) -> None:
        pairs = captioned(4, 3)
        batches = epoch_batches(pairs, replace(RECIPE, batch_size=6), named_generator(0, "x"))
        assert any(len(set(pairs.images_of(rows).tolist())) < 6 for rows in batches)


def test_each_modality_is_a_parameter_group_images_first() -> None:
    params = {name: torch.zeros(1) for name in ("text.a", "image.a", "image.b")}
    image, text = sgd_groups(params, {"text": 0.2, "image": 0.1})
    assert [id(value) for value in image["params"]] == [id(params["image.a"]), id(params["image.b"])]
    assert (text["params"][0] is params["text.a"], image["lr"], text["lr"]) == (True, 0.1, 0.2)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_an_epoch_is_plain_sgd_with_a_rate_a_modality(paths: Paths, weight_decay: float) -> None:
    student = tiny_student(paths, train="frozen", dtype=torch.float64)
    pairs, recipe = features_in_float64(), replace(RECIPE, batch_size=5, weight_decay=weight_decay)
    start = {name: value.double() for name, value in student.init_params(named_generator(0, "init")).items()}
    told: list[float] = []
    draw = named_generator(0, "epoch")
    end = train_epoch(student, start, pairs, recipe=recipe, generator=draw, on_loss=told.append)

    by_hand, losses = copied(start), []
    order = torch.randperm(10, generator=named_generator(0, "epoch"))
    for rows in (order[:5], order[5:]):
        leaves = {name: value.clone().requires_grad_() for name, value in by_hand.items()}
        loss = student.loss(leaves, torch.from_numpy(pairs.images)[rows], torch.from_numpy(pairs.texts)[rows])
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        for (name, value), gradient in zip(by_hand.items(), gradients, strict=True):
            by_hand[name] = value - recipe.learning_rates[name.partition(".")[0]] * (gradient + weight_decay * value)
    assert told == pytest.approx([sum(losses) / 2])
    for name in start:
        assert (by_hand[name] - start[name]).abs().max() > 1e-6
        torch.testing.assert_close(end[name] - start[name], by_hand[name] - start[name], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("train", ["full", "frozen"])
def test_the_parameters_given_are_not_changed(paths: Paths, train: str) -> None:
    student = tiny_student(paths, train=train)
    start = student.init_params(named_generator(0, "init"))
    before = copied(start)
    end = train_epoch(student, start, tiny_pairs(student), recipe=RECIPE, generator=named_generator(0, "epoch"))
    assert same(start, before)
    assert not any(value.requires_grad for value in [*start.values(), *end.values()])
    assert not any(torch.equal(end[name], start[name]) for name in start if name.endswith("weight"))


def test_snapshots_do_not_change_while_training_goes_on(paths: Paths) -> None:
    student = tiny_student(paths)
    kept, copies = [], []
    for epoch, params in train_expert(student, tiny_pairs(student), seed=0, name="e", epochs=3, recipe=RECIPE):
        kept.append((epoch, params))
        copies.append(copied(params))
    assert [epoch for epoch, _ in kept] == [0, 1, 2, 3]
    assert all(same(params, copy) for (_, params), copy in zip(kept, copies, strict=True))
    assert not any(same(copies[epoch], copies[epoch + 1]) for epoch in range(3))


@pytest.mark.parametrize("augmentation", ["none", "crop_flip"])
def test_an_expert_is_a_function_of_seed_and_name(paths: Paths, augmentation: str) -> None:
    student = tiny_student(paths)
    recipe = replace(RECIPE, augmentation=augmentation)
    before = torch.get_rng_state()

    def last(seed: int, name: str) -> Params:
        return dict(train_expert(student, tiny_pairs(student), seed=seed, name=name, epochs=2, recipe=recipe))[2]

    first = last(0, "expert/0")
    assert same(first, last(0, "expert/0"))
    assert not same(first, last(0, "expert/1"))
    assert not same(first, last(1, "expert/0"))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("train", ["full", "frozen"])
@pytest.mark.parametrize("stop", [0, 2])
def test_resumed_from_the_store_goes_on_bitwise(paths: Paths, train: str, stop: int) -> None:
    student = tiny_student(paths, train=train)
    recipe = replace(RECIPE, augmentation="flip", captions="one", batch_size=5, weight_decay=0.01)
    run = partial(train_expert, student, tiny_pairs(student), seed=3, name="expert/0", epochs=4, recipe=recipe)
    whole, store = dict(run()), ExpertStore(paths.cache)
    store.save(0, stop, whole[stop])
    rest = dict(run(resume=(stop, store.load(0, stop))))
    assert list(rest) == list(range(stop + 1, 5))
    assert all(same(params, whole[epoch]) for epoch, params in rest.items())
    assert list(run(resume=(4, whole[4]))) == []


def test_pixels_are_augmented_and_features_are_not(paths: Paths) -> None:
    def end(train: str, augmentation: str) -> Params:
        student = tiny_student(paths, train=train)
        recipe = replace(RECIPE, augmentation=augmentation)
        start = student.init_params(named_generator(0, "init"))
        return train_epoch(student, start, tiny_pairs(student), recipe=recipe, generator=named_generator(0, "epoch"))

    assert same(end("frozen", "none"), end("frozen", "flip"))
    assert not same(end("full", "none"), end("full", "flip"))


def test_batches_are_reported_with_the_embeddings_before_their_step(paths: Paths) -> None:
    student = tiny_student(paths)
    pairs, start, seen = tiny_pairs(student), student.init_params(named_generator(0, "init")), []
    train_epoch(
        student,
        start,
        pairs,
        recipe=replace(RECIPE, batch_size=24),
        generator=named_generator(0, "epoch"),
        on_batch=lambda *batch: seen.append(batch),
    )
    ((rows, images, texts),) = seen
    pixels = torch.from_numpy(pairs.images[pairs.caption_image[rows.numpy()]]).float() / 255
    torch.testing.assert_close(images, student.image.apply(start, pixels))
    torch.testing.assert_close(texts, student.text.apply(start, torch.from_numpy(pairs.texts[rows.numpy()])))
    assert not images.requires_grad


def test_progress_ends_at_one_every_epoch(paths: Paths) -> None:
    student, seen = tiny_student(paths), []
    list(train_expert(student, tiny_pairs(student), seed=0, name="e", epochs=2, recipe=RECIPE, on_progress=seen.append))
    assert seen == pytest.approx([1 / 3, 2 / 3, 1, 1 / 3, 2 / 3, 1])


def test_training_learns_its_pairs(paths: Paths) -> None:
    student: TwoTower = tiny_student(paths)
    pairs = tiny_pairs(student, captions_each=1)
    recipe = ExpertRecipe(learning_rates={"image": 0.1, "text": 0.1}, batch_size=12)
    snapshots = dict(train_expert(student, pairs, seed=0, name="e", epochs=80, recipe=recipe))
    images, texts = torch.from_numpy(pairs.images).float() / 255, torch.from_numpy(pairs.texts)
    losses = [student.loss(snapshots[epoch], images, texts).item() for epoch in (0, 80)]
    assert losses[1] < 0.8 * losses[0]
