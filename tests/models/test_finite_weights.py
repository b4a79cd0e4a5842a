"""Weights with a number that is not finite, and tokenizers that fail at a word, are refused when they are loaded."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from engine.io.paths import Paths
from engine.models.image import timm
from engine.models.text import transformers
from engine.models.weights import load_weights
from tests.models.text.test_transformers import tiny_bert


def test_weights_of_an_image_encoder(paths: Paths) -> None:
    paths.weights.mkdir()
    save_file({"weight": torch.full((2, 3), torch.inf), "bias": torch.zeros(2)}, paths.weights / "a.safetensors")
    with pytest.raises(ValueError, match=r"'a\.safetensors' .*: weight\[0, 0\] is inf, expected finite numbers\.$"):
        load_weights(nn.Linear(3, 2), paths, "a.safetensors")


def test_weights_of_timm(paths: Paths) -> None:
    state = timm.build(paths, model="test_convnext", pretrained=False).backbone.state_dict()
    next(iter(state.values())).view(-1)[0] = torch.nan
    (paths.weights / "test_convnext").mkdir(parents=True)
    save_file(state, paths.weights / "test_convnext" / "model.safetensors")
    with pytest.raises(ValueError, match=r"'test_convnext' cannot be used, .* is nan, expected finite numbers\.$"):
        timm.build(paths, model="test_convnext")


def test_weights_of_a_language_model(paths: Paths) -> None:
    tiny_bert(paths.weights / "bert")
    file = paths.weights / "bert" / "model.safetensors"
    state = load_file(file)
    state["encoder.layer.1.output.dense.weight"][0, 1] = torch.nan
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"output\.dense\.weight\[0, 1\] is nan, expected finite numbers\.$"):
        transformers.build(paths, model="bert")


def test_a_tokenizer_that_fails_at_words_it_does_not_know(paths: Paths) -> None:
    tiny_bert(paths.weights / "bert")
    vocabulary = paths.weights / "bert" / "vocab.txt"
    vocabulary.write_text(vocabulary.read_text(encoding="utf-8").replace("[UNK]", "word"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"student\.text\.model: 'bert' cannot be used, .*\[UNK\]"):
        transformers.build(paths, model="bert")
