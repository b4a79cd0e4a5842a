"""Damaged folders of models: embeddings of finite numbers, or one sentence."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from engine.io.paths import Paths
from engine.models.image import mobilenetv1, timm
from engine.models.image import open_clip as clip_images
from engine.models.text import open_clip as clip_texts
from engine.models.text import transformers
from engine.rng import forked, named_generator
from tests.fuzz.seeds import damaged, try_many
from tests.fuzz.test_sets import with_damaged_header
from tests.models.clips import save_tiny_clip
from tests.models.text.test_transformers import tiny_bert

CAPTIONS = ["a red ball", "blue box on the grass", "something else"]
PIXELS = torch.rand(1, 3, 32, 32, generator=named_generator(0, "pixels"))
NEW_NAME = "model.safetensors"
TIMM = "test_convnext"
pytestmark = pytest.mark.timeout(280)

Module = Any
Read = Callable[[Paths], tuple[Module, Tensor]]


def bert(paths: Paths) -> None:
    tiny_bert(paths.weights / "bert")


def read_bert(paths: Paths) -> tuple[Module, Tensor]:
    encoder = transformers.build(paths, model="bert", max_length=16)
    return encoder.model, encoder.embed(CAPTIONS)


def mobilenet(paths: Paths) -> None:
    paths.weights.mkdir(parents=True)
    with forked(named_generator(0, "mobilenet")):
        save_file(mobilenetv1.build(paths, width=0.03).backbone.state_dict(), paths.weights / NEW_NAME)


def read_mobilenet(paths: Paths) -> tuple[Module, Tensor]:
    encoder = mobilenetv1.build(paths, width=0.03, weights=NEW_NAME)
    return encoder, encoder(PIXELS)


def of_timm(paths: Paths) -> None:
    (paths.weights / TIMM).mkdir(parents=True)
    with forked(named_generator(0, "timm")):
        whole = timm.build(paths, model=TIMM, pretrained=False).backbone
    save_file(whole.state_dict(), paths.weights / TIMM / NEW_NAME)


def read_timm(paths: Paths) -> tuple[Module, Tensor]:
    encoder = timm.build(paths, model=TIMM)
    return encoder, encoder(PIXELS)


def clip(paths: Paths) -> None:
    save_tiny_clip(paths.weights / "clip")


def read_clip_of_images(paths: Paths) -> tuple[Module, Tensor]:
    encoder = clip_images.build(paths, model="clip")
    return encoder, encoder(PIXELS)


def read_clip_of_texts(paths: Paths) -> tuple[Module, Tensor]:
    encoder = clip_texts.build(paths, model="clip")
    return encoder.model, encoder.embed(CAPTIONS)


KINDS: dict[str, tuple[Callable[[Paths], None], Read, int]] = {
    "transformers": (bert, read_bert, 600),
    "mobilenet": (mobilenet, read_mobilenet, 500),
    "timm": (of_timm, read_timm, 600),
    "open_clip images": (clip, read_clip_of_images, 200),
    "open_clip texts": (clip, read_clip_of_texts, 100),
}
"""What is written, how it is read, and how often: 2,000 in all, each of which builds a model."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_model(kind: str, paths: Paths) -> None:
    write, load, count = KINDS[kind]
    write(paths)
    files = {file: file.read_bytes() for file in sorted(paths.weights.rglob("*")) if file.is_file()}
    shape = load(paths)[1].shape
    spoilt: list[Path] = []

    def spoil(random: Random) -> None:
        for file in spoilt:
            file.write_bytes(files[file])
        spoilt[:] = [random.choice(sorted(files))]
        for file in spoilt:
            change = damaged
            if file.suffix == ".safetensors":
                change = random.choice((damaged, with_damaged_header))
            file.write_bytes(change(files[file], random))

    def read() -> None:
        model, features = load(paths)
        assert features.shape == shape or spoilt[0].suffix == ".json"  # of another width, with weights of that width
        assert all(value.isfinite().all() for value in model.state_dict().values())

    try_many(kind, spoil, read, count=count)
