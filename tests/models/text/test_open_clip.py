"""Caption embeddings of a CLIP's frozen text tower."""

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
