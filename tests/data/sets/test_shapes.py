import itertools
import math

import numpy as np
import pytest

from engine.config.components import bind
from engine.data.sets import shapes
from engine.io.files import digest
from engine.io.paths import Paths
from engine.shapes.drawing import draw
from engine.shapes.scene import BACKDROPS, COLOURS, LAYOUTS, SHAPES, TEXTURES, Placement, Scene, Thing, place
from engine.shapes.wording import (
    BACKDROP_PHRASES,
    COLOUR_WORDS,
    COMPLETE,
    SHAPE_WORDS,
    SIZE_WORDS,
    TEXTURE_WORDS,
    caption,
    captions_of,
)

SMALL = {"train_images": 60, "val_images": 20, "test_images": 20}
STAR = Thing("star", "red", "large", "plain")
BALL = Thing("circle", "orange", "small", "striped")


def fingerprint(paths: Paths, **options: int) -> dict[str, str]:
    data = shapes.DataSet(**{**SMALL, **options}).load(paths)
    return {split: digest(pairs.images.tobytes(), *pairs.captions) for split, pairs in data.items()}


def elsewhere(paths: Paths, name: str) -> Paths:
    return Paths(data=paths.data, weights=paths.weights, cache=paths.cache / name)


def test_splits_have_the_sizes_asked_for(paths: Paths) -> None:
    data = shapes.DataSet(image_px=16, **SMALL).load(paths)
    assert {split: (pairs.num_images, len(pairs)) for split, pairs in data.items()} == {
        "train": (60, 300),
        "val": (20, 100),
        "test": (20, 100),
    }
    assert data["val"].images.shape == (20, 3, 16, 16)


def test_the_world_is_the_same_every_time(paths: Paths) -> None:
    first, again = (fingerprint(elsewhere(paths, name)) for name in "ab")
    assert first == again
    assert len(set(first.values())) == 3
    assert set(first.values()).isdisjoint(fingerprint(paths, seed=1).values())


def test_val_and_test_stay_when_train_grows(paths: Paths) -> None:
    small, large = fingerprint(paths), fingerprint(paths, train_images=90)
    assert (small["val"], small["test"]) == (large["val"], large["test"])
    few = shapes.DataSet(**SMALL).load(paths)["train"]
    many = shapes.DataSet(**{**SMALL, "train_images": 90}).load(paths)["train"]
    assert many.captions[: len(few)] == few.captions
    np.testing.assert_array_equal(many.images[:60], few.images)


def test_drawn_once(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fingerprint(paths)
    drawings: list[Scene] = []
    monkeypatch.setattr(shapes.drawing, "draw", lambda scene, **options: drawings.append(scene))
    assert fingerprint(paths) == first
    assert drawings == []


def test_other_code_draws_again(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fingerprint(paths)
    monkeypatch.setattr(shapes, "source_digest", lambda *names: "other")
    assert fingerprint(paths) == first
    assert len(list(paths.cache.rglob("*.npy"))) == 6


def test_no_scene_is_in_two_splits() -> None:
    scenes = shapes.split_scenes({"train": 4000, "val": 500, "test": 500}, seed=0)
    assert len({scene for split in scenes.values() for scene in split}) == 5000
    for one, other in itertools.combinations(scenes.values(), 2):
        assert set(one).isdisjoint(other)


def test_captions_of_an_image_differ_and_tell_everything() -> None:
    rng = np.random.default_rng(0)
    for scene in shapes.split_scenes({"all": 200}, seed=3)["all"]:
        texts = captions_of(scene, count=5, rng=rng)
        assert len(set(texts)) == 5
        together = " ".join(texts).lower()
        assert any(phrase in together for phrase in BACKDROP_PHRASES[scene.backdrop])
        for thing in scene.things:
            for words, value in (
                (SHAPE_WORDS, thing.shape),
                (COLOUR_WORDS, thing.colour),
                (SIZE_WORDS, thing.size),
                (TEXTURE_WORDS, thing.texture),
            ):
                assert any(word in together for word in words[value])


def test_captions_are_varied() -> None:
    rng = np.random.default_rng(0)
    scenes = shapes.split_scenes({"all": 400}, seed=0)["all"]
    texts = [text for scene in scenes for text in captions_of(scene, count=5, rng=rng)]
    assert len(set(texts)) > 0.95 * len(texts)
    assert len({word for text in texts for word in text.lower().strip(".").split()}) > 120


def test_captions_read_like_sentences() -> None:
    rng = np.random.default_rng(0)
    for layout, count in LAYOUTS.items():
        things = (BALL, STAR, Thing("ring", "blue", "small", "dotted"))[:count]
        for _ in range(30):
            text = caption(Scene("sea", layout, things), COMPLETE, rng)
            assert text[0].isupper()
            assert text.endswith(".")
            assert not any(wrong in text for wrong in (" ,", " .", "  ", "{", "a orange", "A orange", "an red"))


def test_every_backdrop_can_be_told_from_the_others() -> None:
    scenes = [Scene(backdrop, "beside", (STAR, BALL)) for backdrop in BACKDROPS]
    pictures = [draw(scene, image_px=32, rng=np.random.default_rng(0)).astype(int) for scene in scenes]
    for one, other in itertools.combinations(pictures, 2):
        assert (abs(one - other).max(0) > 20).sum() > 300


def test_every_word_list_is_complete() -> None:
    assert set(SHAPE_WORDS) == set(SHAPES)
    assert set(COLOUR_WORDS) == set(COLOURS) == set(shapes.drawing.RGB)
    assert set(TEXTURE_WORDS) == set(TEXTURES)
    assert set(BACKDROP_PHRASES) == set(BACKDROPS)
    assert set(shapes.wording.RELATED) == set(LAYOUTS)


def test_scene_decides_the_picture() -> None:
    beside = Scene("snow", "beside", (STAR, BALL))
    swapped = Scene("snow", "beside", (BALL, STAR))
    left, right = (draw(scene, image_px=32, rng=np.random.default_rng(0)) for scene in (beside, swapped))
    red = [(image[0] > 180) & (image[1] < 90) & (image[2] < 90) for image in (left, right)]
    assert red[0][:, :16].sum() > 20 > red[0][:, 16:].sum()
    assert red[1][:, 16:].sum() > 20 > red[1][:, :16].sum()


def test_things_stay_in_the_picture_and_in_order() -> None:
    rng = np.random.default_rng(0)
    for scene in shapes.split_scenes({"all": 300}, seed=0)["all"]:
        placements = place(scene, rng)
        assert all(0.05 < value < 0.95 for one in placements for value in (one.x, one.y))
        if scene.layout in ("beside", "row"):
            assert ascending([one.x for one in placements])
        if scene.layout in ("stacked", "column"):
            assert ascending([one.y for one in placements])


def ascending(values: list[float]) -> bool:
    return values == sorted(values)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("texture", TEXTURES)
def test_every_shape_and_texture_can_be_told_from_the_others(shape: str, texture: str) -> None:
    def drawn(shape: str, texture: str) -> np.ndarray:
        canvas = np.ones((64, 64, 3), np.float32)
        axis = (np.arange(64, dtype=np.float32) + 0.5) / 64
        thing = Thing(shape, "blue", "large", texture)
        shapes.drawing.draw_thing(canvas, axis, thing, Placement(x=0.5, y=0.5, radius=0.3, tilt=0.1, shade=0.0))
        return canvas

    here = drawn(shape, texture)
    others = [(s, t) for s in SHAPES for t in TEXTURES if (s, t) != (shape, texture)]
    assert all((abs(here - drawn(*other)).max(-1) > 0.2).sum() > 60 for other in others)
    assert np.all(here[:6] == 1)  # nothing is painted far from the thing


@pytest.mark.parametrize("option", ["train_images", "val_images", "test_images", "image_px"])
def test_options_out_of_range_are_named(option: str) -> None:
    with pytest.raises(ValueError, match=rf"^data set shapes: {option} is 0, expected a number of at least \d\.$"):
        bind("data", "shapes", {option: 0})


def test_there_are_many_thousands_of_scenes() -> None:
    assert math.prod(map(len, (SHAPES, COLOURS, TEXTURES, BACKDROPS))) > 3000  # with one thing; two things: its square
