"""Damaged folders of models: embeddings of finite numbers, or one sentence."""

from collections.abc import Callable
from pathlib import Path
from random import Random

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
pytestmark = pytest.mark.timeout(280)


def bert(paths: Paths) -> None:
    tiny_bert(paths.weights / "bert")


def embedded_by_bert(paths: Paths) -> Tensor:
    return transformers.build(paths, model="bert", max_length=16).embed(CAPTIONS)


def mobilenet(paths: Paths) -> None:
    paths.weights.mkdir(parents=True)
    with forked(named_generator(0, "mobilenet")):
        save_file(mobilenetv1.build(paths, width=0.03).backbone.state_dict(), paths.weights / "model.safetensors")


def seen_by_mobilenet(paths: Paths) -> Tensor:
    return mobilenetv1.build(paths, width=0.03, weights="model.safetensors")(PIXELS)


TIMM = "test_convnext"


def timm_folder(paths: Paths) -> None:
    (paths.weights / TIMM).mkdir(parents=True)
    with forked(named_generator(0, "timm")):
        whole = timm.build(paths, model=TIMM, pretrained=False).backbone
    save_file(whole.state_dict(), paths.weights / TIMM / "model.safetensors")


def seen_by_timm(paths: Paths) -> Tensor:
    return timm.build(paths, model=TIMM)(PIXELS)


def clip(paths: Paths) -> None:
    save_tiny_clip(paths.weights / "clip")


def seen_by_clip(paths: Paths) -> Tensor:
    return clip_images.build(paths, model="clip")(PIXELS)


def embedded_by_clip(paths: Paths) -> Tensor:
    return clip_texts.build(paths, model="clip").embed(CAPTIONS)


KINDS: dict[str, tuple[Callable[[Paths], None], Callable[[Paths], Tensor], int]] = {
    "transformers": (bert, embedded_by_bert, 200),
    "mobilenet": (mobilenet, seen_by_mobilenet, 200),
    "timm": (timm_folder, seen_by_timm, 200),
    "open_clip images": (clip, seen_by_clip, 50),
    "open_clip texts": (clip, embedded_by_clip, 50),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_model(kind: str, paths: Paths) -> None:
    write, read_features, count = KINDS[kind]
    write(paths)
    files = {file: file.read_bytes() for file in sorted(paths.weights.rglob("*")) if file.is_file()}
    spoilt: list[Path] = []

    def spoil(random: Random) -> None:
        for file in spoilt:
            file.write_bytes(files[file])
        spoilt[:] = random.sample(sorted(files), k=1 if random.random() < 0.98 else 0)
        for file in spoilt:
            change = damaged
            if file.suffix == ".safetensors":
                change = random.choice((damaged, with_damaged_header))
            file.write_bytes(change(files[file], random))

    def read() -> None:
        assert read_features(paths).isfinite().all()

    try_many(kind, spoil, read, count=count)
