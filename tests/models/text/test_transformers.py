import json
import time
from pathlib import Path

import pytest
import torch

from engine.io.paths import Paths
from engine.models.text import TextEncoder
from engine.models.text.transformers import TransformersEncoder, build
from engine.rng import forked, named_generator

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
    with forked(named_generator(seed, "bert")):
        BertModel(config).save_pretrained(folder)
    tiny_tokenizer(folder, "BertTokenizer")


def tiny_distilbert(folder: Path, seed: int = 0) -> None:
    """Save a DistilBERT of the same size."""
    from transformers import DistilBertConfig, DistilBertModel

    folder.mkdir(parents=True)
    config = DistilBertConfig(
        vocab_size=len(WORDS), dim=16, n_layers=2, n_heads=2, hidden_dim=32, initializer_range=0.5
    )
    with forked(named_generator(seed, "distilbert")):
        DistilBertModel(config).save_pretrained(folder)
    tiny_tokenizer(folder, "DistilBertTokenizer")


def tiny_tokenizer(folder: Path, kind: str) -> None:
    """Write the files of a tokenizer of whole words."""
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    tokenizer = {"tokenizer_class": kind, "do_lower_case": True, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")


@pytest.fixture
def bert(paths: Paths) -> Paths:
    tiny_bert(paths.weights / "tiny-bert")
    return paths


def load(paths: Paths, **options: object) -> TransformersEncoder:
    return build(paths, model="someone/tiny-bert", **options)


def test_is_a_frozen_text_encoder(bert: Paths) -> None:
    encoder = load(bert)
    assert isinstance(encoder, TextEncoder)
    assert encoder.dim == 16
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_batching_by_length_changes_nothing(bert: Paths) -> None:
    encoder = load(bert)
    together = encoder.embed(CAPTIONS * 40)
    alone = torch.cat([encoder.embed([caption]) for caption in CAPTIONS])
    torch.testing.assert_close(together, alone.repeat(40, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(160))
    assert not together.requires_grad


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_pooling_by_hand(bert: Paths, pooling: str) -> None:
    encoder = load(bert, pooling=pooling, normalize=False)
    tokens = torch.tensor([[WORDS.index(word) for word in ("[CLS]", "a", "red", "ball", "[SEP]")]])
    with torch.no_grad():
        states = encoder.model(input_ids=tokens).last_hidden_state[0]
    expected = states.mean(0) if pooling == "mean" else states[0]
    torch.testing.assert_close(encoder.embed(CAPTIONS[:2])[0], expected, atol=1e-5, rtol=0)


def sentence_pooling(folder: Path, **modes: object) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **modes}))


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False, "include_prompt": True}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
def test_a_sentence_encoder_says_how_it_is_pooled(bert: Paths, modes: dict, expected: str) -> None:
    sentence_pooling(bert.weights / "tiny-bert", **modes)
    assert load(bert).key == load(bert, pooling=expected).key
    assert load(bert, pooling="mean").key != load(bert, pooling="cls").key


@pytest.mark.parametrize(
    "modes", [{"pooling_mode_max_tokens": True}, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, {}]
)
def test_another_pooling_of_a_sentence_encoder_is_refused(bert: Paths, modes: dict) -> None:
    sentence_pooling(bert.weights / "tiny-bert", **modes)
    with pytest.raises(ValueError, match=r"config\.json: expected the pooling of mean_tokens or of cls_token alone"):
        load(bert)
    load(bert, pooling="mean")


@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM", "DistilBertModel", "DistilBertForMaskedLM"])
def test_the_pooling_of_a_model_without_a_word_on_it(paths: Paths, kind: str) -> None:
    folder = paths.weights / "tiny-bert"
    if kind.startswith("Distil"):
        tiny_distilbert(folder)
    else:
        tiny_bert(folder)
    config = json.loads((folder / "config.json").read_text())
    assert load(paths).key == load(paths, pooling="mean").key
    (folder / "config.json").write_text(json.dumps({**config, "architectures": [kind]}))
    expected = "cls" if kind.endswith("ForMaskedLM") else "mean"
    assert load(paths).pooling == expected


def test_distilbert_by_hand(paths: Paths) -> None:
    tiny_distilbert(paths.weights / "tiny-bert")
    encoder = load(paths, pooling="cls", normalize=False)
    assert encoder.dim == 16
    tokens = torch.tensor([[WORDS.index(word) for word in ("[CLS]", "a", "red", "ball", "[SEP]")]])
    with torch.no_grad():
        states = encoder.model(input_ids=tokens).last_hidden_state[0]
    torch.testing.assert_close(encoder.embed(CAPTIONS[:2])[0], states[0], atol=1e-5, rtol=0)


def test_a_frozen_encoder_drops_nothing_out(bert: Paths) -> None:
    encoder = load(bert)
    dropouts = [module for module in encoder.model.modules() if isinstance(module, torch.nn.Dropout)]
    assert any(module.p > 0 for module in dropouts)
    assert not any(module.training for module in encoder.model.modules())
    before = torch.get_rng_state()
    assert torch.equal(encoder.embed(CAPTIONS), encoder.embed(CAPTIONS))
    assert torch.equal(torch.get_rng_state(), before)


def test_long_captions_are_cut(bert: Paths) -> None:
    encoder = load(bert, max_length=5)
    short, long = encoder.embed(["a red ball", "a red ball on the grass"])
    torch.testing.assert_close(short, long)


def test_key_tells_weights_words_and_options_apart(bert: Paths) -> None:
    tiny_bert(bert.weights / "other-bert", seed=1)
    tiny_bert(bert.weights / "same-bert")
    tiny_bert(bert.weights / "reworded-bert")
    (bert.weights / "reworded-bert" / "vocab.txt").write_text("\n".join([*WORDS[:-1], "lawn"]), encoding="utf-8")
    assert load(bert).key == build(bert, model="same-bert").key
    keys = [load(bert).key, load(bert, pooling="cls").key, load(bert, max_length=9).key]
    keys += [load(bert, normalize=False).key]
    keys += [build(bert, model=name).key for name in ("other-bert", "reworded-bert")]
    assert len(set(keys)) == len(keys)


def test_loading_is_quiet(bert: Paths, capfd: pytest.CaptureFixture[str]) -> None:
    load(bert).embed(CAPTIONS)
    assert capfd.readouterr() == ("", "")


def test_absent_model_is_told_at_once(paths: Paths) -> None:
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"text\.model: 'nobody/no-such-bert' is neither a folder in .*VLDD_WEIGHTS"):
        build(paths, model="nobody/no-such-bert")
    assert time.monotonic() - start < 10


def test_impossible_name_is_told(paths: Paths) -> None:
    with pytest.raises(ValueError, match=r"text\.model: 'no such//bert' is neither"):
        build(paths, model="no such//bert")


def test_pickled_weights_are_not_read(bert: Paths) -> None:
    folder = bert.weights / "tiny-bert"
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"tiny-bert: expected a transformers model with config\.json, tokenizer and"):
        load(bert)


def test_empty_folder(paths: Paths) -> None:
    (paths.weights / "tiny-bert").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"tiny-bert: expected a transformers model"):
        load(paths)


def test_max_length_must_hold_a_word(bert: Paths) -> None:
    with pytest.raises(ValueError, match=r"text\.max_length: expected at least 3 tokens, got 2"):
        load(bert, max_length=2)


def test_mini_lm(weights: Path, paths: Paths) -> None:
    if not (weights / "all-MiniLM-L6-v2").is_dir():
        pytest.skip(f"{weights} holds no all-MiniLM-L6-v2")
    there = Paths(data=paths.data, weights=weights, cache=paths.cache)
    encoder = build(there, model="sentence-transformers/all-MiniLM-L6-v2")
    assert encoder.pooling == "mean"
    dog, puppy, car = encoder.embed(["A dog runs on grass.", "A puppy is running over a lawn.", "A parked red car."])
    assert encoder.dim == 384
    assert dog @ puppy > 0.5 > 0.2 > dog @ car
