import json
import time
from pathlib import Path

import pytest
import torch

from engine.models.text import TextEncoder
from engine.models.text.transformers import TransformersEncoder, build
from engine.places import Places
from engine.rng import forked, stream

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "blue", "ball", "box", "on", "the", "grass"]
CAPTIONS = ["a red ball", "blue box on the grass on the grass", "ball", "a red ball on the grass"]


def tiny_bert(folder: Path, seed: int = 0) -> None:
    """Save a BERT of 2 layers and 12 words with random weights."""
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,
    )
    with forked(stream(seed, "bert")):
        BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    tokenizer = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")


@pytest.fixture
def bert(places: Places) -> Places:
    tiny_bert(places.weights / "tiny-bert")
    return places


def load(places: Places, **options: object) -> TransformersEncoder:
    return build(places, model="someone/tiny-bert", **options)


def test_is_a_frozen_text_encoder(bert: Places) -> None:
    encoder = load(bert)
    assert isinstance(encoder, TextEncoder)
    assert encoder.dim == 16
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_batching_by_length_changes_nothing(bert: Places) -> None:
    encoder = load(bert)
    together = encoder.embed(CAPTIONS * 40)
    alone = torch.cat([encoder.embed([caption]) for caption in CAPTIONS])
    torch.testing.assert_close(together, alone.repeat(40, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(160))
    assert not together.requires_grad


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_pooling_by_hand(bert: Places, pooling: str) -> None:
    encoder = load(bert, pooling=pooling, normalize=False)
    tokens = torch.tensor([[WORDS.index(word) for word in ("[CLS]", "a", "red", "ball", "[SEP]")]])
    with torch.no_grad():
        states = encoder.model(input_ids=tokens).last_hidden_state[0]
    expected = states.mean(0) if pooling == "mean" else states[0]
    torch.testing.assert_close(encoder.embed(CAPTIONS[:2])[0], expected, atol=1e-5, rtol=0)


def test_long_captions_are_cut(bert: Places) -> None:
    encoder = load(bert, max_length=5)
    short, long = encoder.embed(["a red ball", "a red ball on the grass"])
    torch.testing.assert_close(short, long)


def test_key_tells_weights_words_and_options_apart(bert: Places) -> None:
    tiny_bert(bert.weights / "other-bert", seed=1)
    tiny_bert(bert.weights / "same-bert")
    tiny_bert(bert.weights / "reworded-bert")
    (bert.weights / "reworded-bert" / "vocab.txt").write_text("\n".join([*WORDS[:-1], "lawn"]), encoding="utf-8")
    assert load(bert).key == build(bert, model="same-bert").key
    keys = [load(bert).key, load(bert, pooling="cls").key, load(bert, max_length=9).key]
    keys += [load(bert, normalize=False).key]
    keys += [build(bert, model=name).key for name in ("other-bert", "reworded-bert")]
    assert len(set(keys)) == len(keys)


def test_loading_is_quiet(bert: Places, capfd: pytest.CaptureFixture[str]) -> None:
    load(bert).embed(CAPTIONS)
    assert capfd.readouterr() == ("", "")


def test_absent_model_is_told_at_once(places: Places) -> None:
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"text\.model: 'nobody/no-such-bert' is neither a folder in .*VLDD_WEIGHTS"):
        build(places, model="nobody/no-such-bert")
    assert time.monotonic() - start < 10


def test_impossible_name_is_told(places: Places) -> None:
    with pytest.raises(ValueError, match=r"text\.model: 'no such//bert' is neither"):
        build(places, model="no such//bert")


def test_pickled_weights_are_not_read(bert: Places) -> None:
    folder = bert.weights / "tiny-bert"
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"tiny-bert: expected a transformers model with config\.json, tokenizer and"):
        load(bert)


def test_empty_folder(places: Places) -> None:
    (places.weights / "tiny-bert").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"tiny-bert: expected a transformers model"):
        load(places)


def test_max_length_must_hold_a_word(bert: Places) -> None:
    with pytest.raises(ValueError, match=r"text\.max_length: expected at least 3 tokens, got 2"):
        load(bert, max_length=2)


def test_mini_lm(weights: Path, places: Places) -> None:
    if not (weights / "all-MiniLM-L6-v2").is_dir():
        pytest.skip(f"{weights} holds no all-MiniLM-L6-v2")
    there = Places(data=places.data, weights=weights, cache=places.cache)
    encoder = build(there, model="sentence-transformers/all-MiniLM-L6-v2")
    dog, puppy, car = encoder.embed(["A dog runs on grass.", "A puppy is running over a lawn.", "A parked red car."])
    assert encoder.dim == 384
    assert dog @ puppy > 0.5 > 0.2 > dog @ car
