"""Frozen text encoders compute on the device that they were moved to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import build
from engine.config.load import load, resolve
from engine.io.paths import Paths
from engine.models.text import TextEncoder, open_clip, tfidf, transformers
from tests.models.clips import NAME, save_tiny_clip
from tests.models.text.test_transformers import CAPTIONS, tiny_bert
from tests.tiny import SPACE

META = torch.device("meta")


class Reached(Exception):
    """The encoder's first layer has been called."""


def bert(paths: Paths) -> tuple[TextEncoder, torch.nn.Module]:
    tiny_bert(paths.weights / "tiny-bert")
    encoder = transformers.build(paths, model="tiny-bert")
    return encoder, encoder.model.get_input_embeddings()


def clip(paths: Paths) -> tuple[TextEncoder, torch.nn.Module]:
    save_tiny_clip(paths.weights / NAME)
    encoder = open_clip.build(paths, model=NAME)
    return encoder, encoder.model.token_embedding


@pytest.mark.parametrize("build_encoder", [bert, clip])
def test_weights_and_tokens_end_on_the_device_asked_for(paths: Paths, build_encoder: Callable[..., Any]) -> None:
    encoder, first_layer = build_encoder(paths)
    given: list[torch.device] = []

    def stop(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        given.append(inputs[0].device)
        raise Reached

    assert encoder.to(META) is encoder
    assert {value.device for value in [*encoder.model.parameters(), *encoder.model.buffers()]} == {META}
    first_layer.register_forward_pre_hook(stop)
    with pytest.raises(Reached):
        encoder.embed(CAPTIONS)
    assert given == [META]


@pytest.mark.parametrize("build_encoder", [bert, clip])
def test_a_move_to_the_same_device_changes_nothing(paths: Paths, build_encoder: Callable[..., Any]) -> None:
    encoder, _ = build_encoder(paths)
    expected, key = encoder.embed(CAPTIONS), encoder.key
    assert torch.equal(encoder.to(torch.device("cpu")).embed(CAPTIONS), expected)
    assert encoder.key == key


def test_a_study_embeds_its_captions_on_its_own_device(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    moves: list[torch.device] = []

    class Recording(tfidf.TfidfEncoder):
        def to(self, device: torch.device) -> "Recording":
            moves.append(device)
            return self

        def embed(self, captions: Any) -> torch.Tensor:
            assert moves, "captions were embedded before the encoder was moved"
            return super().embed(captions)

    monkeypatch.setattr(build, "build_text_encoder", lambda study, paths: Recording(dim=16, ngrams=2))
    setup = build.build_setup(resolve(load(SPACE)), paths)
    assert moves == [setup.device]
