"""The components that the pages show are ones: each is written into its family's folder and does what it says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.config import components
from engine.data.recognise import recognise
from engine.distill import Distillation, outer_optimiser
from engine.io.paths import Paths
from engine.models.image import ImageEncoder
from engine.models.text import TextEncoder
from engine.rng import named_generator
from tests.data.sets import layouts
from tests.docs.reader import barred, install_components, shown_components
from tests.toys import tiny_sources, tiny_student


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Any]:
    """Return how a component of the pages is found, once their files lie in their folders."""
    install_components(tmp_path, monkeypatch)
    return components.find


def test_every_page_on_adding_one_shows_one() -> None:
    assert [*shown_components()] == [
        ("data", "barred"), ("method", "text_fit"), ("image", "patches"), ("text", "hashed")
    ]  # fmt: skip


def test_the_method_learns(found: Callable[..., Any], paths: Paths) -> None:
    method = found("method", "text_fit")(num_pairs=6)
    sources = tiny_sources(tiny_student(paths), epochs=1)
    pairs = torch.rand(6, 3, 8, 8, generator=named_generator(0, "x")), torch.from_numpy(sources.pairs.texts[:6])
    state = method.initial_state(*pairs, sources, named_generator(0, "state"))
    run = Distillation(method, state, outer_optimiser(method.param_groups(state), {"text": 0.05}), sources, seed=0)
    losses: list[float] = []
    run.run(20, lambda step, state, metrics: losses.append(metrics["loss"]))
    assert losses[-1] < losses[0]
    assert torch.equal(state.synthetic.images, pairs[0])


def test_the_image_encoder_is_one(found: Callable[..., Any], paths: Paths) -> None:
    encoder = found("image", "patches")(paths, patch=4)
    assert isinstance(encoder, ImageEncoder)
    assert encoder(torch.rand(2, 3, 16, 16)).shape == (2, encoder.features)


def test_the_text_encoder_is_one(found: Callable[..., Any], paths: Paths) -> None:
    encoder = found("text", "hashed")(paths, dim=64)
    assert isinstance(encoder, TextEncoder)
    embedded = encoder.embed(["a red lamp", "a red lamp", "two dogs"])
    assert embedded.shape == (3, encoder.dim)
    assert torch.equal(embedded[0], embedded[1])
    assert not torch.equal(embedded[0], embedded[2])
    assert embedded.norm(dim=1).tolist() == pytest.approx([1, 1, 1])


def test_the_data_set_is_read_and_recognised(found: Callable[..., Any], paths: Paths) -> None:
    barred(paths.data / "mine")
    data = found("data", "barred")(root="mine", image_px=8)
    splits = data.load(paths)
    assert {split: (pairs.num_images, len(pairs)) for split, pairs in splits.items()} == data.sizes(paths)
    read = {
        name: text for pairs in splits.values() for name, text in zip(pairs.image_names, pairs.captions, strict=True)
    }
    assert read == {f"{number}.png": f"a photo of {number}.png" for number in range(40)}
    again = recognise(paths.data / "mine")
    assert (again.name, again.settings) == ("barred", {"file": "photos.txt"})
    layouts.lines(paths.data / "mine" / "photos.txt", ["0.png | a photo", "1.png"])
    with pytest.raises(ValueError, match=r"photos\.txt: line 2 is '1\.png', expected"):
        data.load(paths)
