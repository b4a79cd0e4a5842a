"""Caption embeddings of a CLIP's frozen text tower."""

import json
from pathlib import Path

import pytest
import torch

from engine.io.paths import Paths
from engine.models.text import TextEncoder
from engine.models.text import open_clip as adapter
from tests.models.clips import CONFIG, NAME, register_tiny_clip, save_tiny_clip

CAPTIONS = ["a red ball", "a blue box on the grass", "A dog runs.", "two people"]


@pytest.fixture
def clip(paths: Paths) -> Paths:
    save_tiny_clip(paths.weights / NAME)
    return paths


def test_is_a_frozen_text_encoder(clip: Paths) -> None:
    encoder = adapter.build(clip, model=NAME)
    assert isinstance(encoder, TextEncoder)
    assert encoder.dim == CONFIG["embed_dim"]
    assert not any(module.training for module in encoder.model.modules())
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_embeds_as_open_clip_does(clip: Paths) -> None:
    import open_clip

    folder = f"local-dir:{clip.weights / NAME}"
    model, tokens = open_clip.create_model(folder).eval(), open_clip.get_tokenizer(folder)(CAPTIONS)
    with torch.no_grad():
        expected = model.encode_text(tokens)
    embedded = adapter.build(clip, model=NAME, normalize=False).embed(CAPTIONS)
    torch.testing.assert_close(embedded, expected)
    unit = adapter.build(clip, model=NAME).embed(CAPTIONS)
    torch.testing.assert_close(unit, torch.nn.functional.normalize(expected, dim=1))
    assert not unit.requires_grad


def test_batches_change_nothing(clip: Paths) -> None:
    encoder = adapter.build(clip, model=NAME)
    together = encoder.embed(CAPTIONS * 40)
    torch.testing.assert_close(together, encoder.embed(CAPTIONS).repeat(40, 1), atol=1e-5, rtol=0)
    assert encoder.embed([]).shape == (0, encoder.dim)


def test_long_captions_are_cut(clip: Paths) -> None:
    words = "a red ball on the grass " * 5
    short, long = adapter.build(clip, model=NAME).embed([words, words + "and a dog"])
    torch.testing.assert_close(short, long)


def test_key_tells_weights_and_options_apart(clip: Paths) -> None:
    save_tiny_clip(clip.weights / "same")
    save_tiny_clip(clip.weights / "other", seed=1)
    own = adapter.build(clip, model=NAME).key
    assert adapter.build(clip, model="same").key == own
    others = [adapter.build(clip, model="other").key, adapter.build(clip, model=NAME, normalize=False).key]
    assert len({own, *others}) == 3


def test_random_weights_are_refused(paths: Paths, tmp_path: Path) -> None:
    register_tiny_clip(tmp_path)
    with pytest.raises(ValueError, match=r"^student\.text\.pretrained: tiny-clip is frozen, expected a tag .*\.$"):
        adapter.build(paths, model=NAME)


def test_an_unknown_model_is_told(paths: Paths) -> None:
    with pytest.raises(ValueError, match=r"^student\.text\.model: open_clip knows no model 'clip' .*\.$"):
        adapter.build(paths, model="clip")


def configure(folder: Path, **text: object) -> None:
    file = folder / "open_clip_config.json"
    config = json.loads(file.read_text())
    config["model_cfg"]["text_cfg"] |= text
    file.write_text(json.dumps(config))


def test_positions_are_not_interpolated_unasked(clip: Paths) -> None:
    configure(clip.weights / NAME, context_length=20)
    with pytest.raises(
        ValueError,
        match=r"^student\.text\.model: 'tiny-clip' cannot be used, .* positional_embedding of the size \[20, 16",
    ):
        adapter.build(clip, model=NAME)


def test_a_tokenizer_without_a_vocabulary_is_refused(clip: Paths) -> None:
    configure(clip.weights / NAME, hf_tokenizer_name="tokenizer")
    (clip.weights / NAME / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    with pytest.raises(
        ValueError,
        match=r"^student\.text\.model: 'tiny-clip' cannot be used, .*tokenizer of the 49408 tokens .* found 5 in",
    ):
        adapter.build(clip, model=NAME)


def test_a_tokenizer_brings_no_code(clip: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*question: object) -> str:
        raise AssertionError(question)

    monkeypatch.setattr("builtins.input", asked)
    folder = clip.weights / NAME
    (folder / "code.py").write_text("raise SystemExit('the code was run')")
    own = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["code.Own", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(own))
    for options in ({}, {"trust_remote_code": True}):
        configure(folder, hf_tokenizer_name="tokenizer", tokenizer_kwargs=options)
        with pytest.raises(ValueError, match=r"^student\.text\.model: 'tiny-clip' cannot be used"):
            adapter.build(clip, model=NAME)


def test_words_are_known_to_a_tokenizer_that_spells(clip: Paths) -> None:
    assert adapter.build(clip, model=NAME).knows(["a dog", "狗", "zzyzx"]).tolist() == [True] * 3
