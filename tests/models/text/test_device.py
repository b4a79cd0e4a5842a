"""Frozen text encoders compute on the device that they were moved to."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from engine import build
from engine.config.load import load, resolve
from engine.io.paths import Paths
from engine.models.text import TextEncoder, open_clip, tfidf, transformers
from engine.rewording import captions_as_texts
from tests.models.clips import NAME, save_tiny_clip
from tests.models.text.test_transformers import CAPTIONS, tiny_bert
from tests.tiny import SPACE

META = torch.device("meta")
BERT = "student.text={encoder: transformers, model: tiny-bert, head: linear, max_length: 16, train: frozen}"


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


KINDS = pytest.mark.parametrize(
    ("kind", "words"), [(tfidf.TfidfEncoder, ()), (transformers.TransformersEncoder, (BERT,))], ids=["tfidf", "bert"]
)


def watched(kind: Any, monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """Return the devices that encoders of a kind will be moved to, each before it embeds a caption."""
    moves: list[torch.device] = []
    move, embed = kind.to, kind.embed

    def moved(self: TextEncoder, device: torch.device) -> TextEncoder:
        moves.append(device)
        return move(self, device)

    def embedded(self: TextEncoder, captions: Sequence[str]) -> torch.Tensor:
        assert moves, "captions were embedded before the encoder was moved"
        return embed(self, captions)

    monkeypatch.setattr(kind, "to", moved)
    monkeypatch.setattr(kind, "embed", embedded)
    return moves


@KINDS
def test_a_study_embeds_its_captions_on_its_own_device(
    kind: Any, words: tuple[str, ...], paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_bert(paths.weights / "tiny-bert")
    moves = watched(kind, monkeypatch)
    setup = build.build_setup(resolve(load(SPACE, words)), paths)
    list(setup.pairs.values())
    assert moves == [setup.device]


@KINDS
def test_captions_of_a_set_are_embedded_there_too(
    kind: Any, words: tuple[str, ...], paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_bert(paths.weights / "tiny-bert")
    study = resolve(load(SPACE, words))
    setup = build.build_setup(study, paths)
    moves = watched(kind, monkeypatch)
    texts = captions_as_texts(study, setup, paths, setup.datasets["train"].captions[:3])
    assert torch.allclose(texts, torch.from_numpy(setup.pairs["train"].texts[:3].copy()), atol=1e-6)
    assert moves[0] == setup.device
