"""Folders of language models that hold something else than their configuration says: one sentence for each."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.io.paths import Paths
from engine.models.text.transformers import TransformersEncoder, build
from tests.models.text.test_transformers import WORDS, sentence_pooling, tiny_bert, tiny_distilbert, tiny_tokenizer

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 90868376\n"
CODE = {"auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M", "AutoTokenizer": ["code.T", None]}}
SIZES: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


@pytest.fixture
def folder(paths: Paths) -> Path:
    tiny_bert(paths.weights / "tiny")
    return paths.weights / "tiny"


def load(folder: Path, **options: Any) -> TransformersEncoder:
    paths = Paths(data=folder, weights=folder.parent, cache=folder)
    return build(paths, model="someone/tiny", **{"max_length": 16, **options})


def configure(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def rename(folder: Path, change: Callable[[str], str | None]) -> None:
    """Write the weights anew, under the names that ``change`` gives and without those it gives none."""
    file = folder / "model.safetensors"
    state = {new: value for name, value in load_file(file).items() if (new := change(name))}
    save_file(state, file, metadata={"format": "pt"})


def save(folder: Path, kind: str, config: dict[str, Any]) -> None:
    """Save a model of transformers with a BERT's tokenizer."""
    import transformers

    made = getattr(transformers, f"{kind}Config")(**config)
    getattr(transformers, f"{kind}Model")(made).save_pretrained(folder)
    tiny_tokenizer(folder, "BertTokenizer")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a prefix": (lambda f: rename(f, "module.{}".format), r"all weights of a BertModel, found none of embeddings"),
    "a layer missing": (
        lambda f: rename(f, lambda n: None if "layer.1" in n else n),
        r"found none of encoder\.layer\.1",
    ),
    "more layers": (lambda f: configure(f / "config.json", num_hidden_layers=3), r"found none of encoder\.layer\.2"),
    "fewer layers": (lambda f: configure(f / "config.json", num_hidden_layers=1), r"which has no encoder\.layer\.1"),
    "another number of words": (
        lambda f: configure(f / "config.json", vocab_size=20),
        r"sizes in config\.json, but embeddings\.word_embeddings\.weight has \[12, 16\] instead of \[20, 16\]",
    ),
    "another width": (
        lambda f: configure(f / "config.json", hidden_size=32),
        r"\[16\] instead of \[32\] \(37 differ\)",
    ),
    "an impossible width": (lambda f: configure(f / "config.json", hidden_size=17), r"hidden size \(17\) is not"),
    "an own head": (
        lambda f: (
            configure(f / "config.json", architectures=["Own"]),
            rename(f, lambda n: n.replace("pooler", "own")),
        ),
        r"its authors' Own adds layers of its own \(own\.dense\.bias\)",
    ),
    "a list for a configuration": (lambda f: (f / "config.json").write_text("[]"), "expected a transformers model"),
    "a number for names": (lambda f: configure(f / "config.json", architectures=7), "'int' object is not iterable"),
    "a pointer for weights": (lambda f: (f / "model.safetensors").write_text(POINTER), "header too large"),
    "a pointer for a configuration": (lambda f: (f / "config.json").write_text(POINTER), "not a valid JSON file"),
    "a pointer for a tokenizer": (lambda f: (f / "tokenizer.json").write_text(POINTER), "Expecting value"),
    "a pointer for words": (
        lambda f: (f / "vocab.txt").write_text(POINTER),
        "tokenizer of the 12 tokens .* found 3 in",
    ),
    "weights cut": (lambda f: cut(f / "model.safetensors"), "incomplete metadata"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "header too small"),
    "words cut": (lambda f: (f / "vocab.txt").write_text("\n".join(WORDS[:-1])), "found 11 in its vocabulary"),
    "words of another": (
        lambda f: (f / "vocab.txt").write_text("\n".join([*WORDS, "x"])),
        "found 13 in its vocabulary",
    ),
    "no words": (lambda f: (f / "vocab.txt").unlink(), "found 5 in its vocabulary"),
    "weights that are no numbers": (
        lambda f: save_file(
            {n: v * torch.nan for n, v in load_file(f / "model.safetensors").items()}, f / "model.safetensors"
        ),
        r"embeddings\.word_embeddings\.weight\[0, 0\] is nan, expected finite numbers",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_one_sentence_with_key_value_and_place(damage: str, folder: Path) -> None:
    harm, expected = DAMAGES[damage]
    harm(folder)
    with pytest.raises(
        ValueError, match=rf"^student\.text\.model: 'someone/tiny' cannot be used, {folder}: .*{expected}"
    ) as told:
        load(folder)
    assert str(told.value).endswith(".")
    assert "\n" not in str(told.value)


def test_a_pooling_layer_without_weights_is_left_out_and_the_key_is_the_same_in_every_process(folder: Path) -> None:
    expected = load(folder).embed(["a red ball"])
    rename(folder, lambda name: None if "pooler" in name else name)
    encoder = load(folder)
    assert torch.equal(encoder.embed(["a red ball"]), expected)
    assert encoder.key == load(folder).key


def test_heads_of_the_training_task_are_not_used(paths: Paths) -> None:
    from transformers import BertConfig, BertForMaskedLM

    folder = paths.weights / "tiny"
    BertForMaskedLM(BertConfig(**SIZES)).save_pretrained(folder)
    tiny_tokenizer(folder, "BertTokenizer")
    assert load(folder).pooling == "cls"


@pytest.mark.parametrize("place", ["config.json", "tokenizer_config.json"])
def test_code_beside_the_weights_is_never_run_nor_asked_for(
    place: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*question: object) -> str:
        raise AssertionError(question)

    monkeypatch.setattr("builtins.input", asked)
    (folder / "code.py").write_text("raise SystemExit('the code was run')")
    configure(folder / place, model_type="strange", tokenizer_class="Strange", **CODE)
    reason = (
        ", but it needs code that lies beside its weights, which is never run."
        if place == "config.json"
        else "tokenizer"
    )
    with pytest.raises(ValueError, match=rf"^student\.text\.model: 'someone/tiny' cannot be used.*{re.escape(reason)}"):
        load(folder)


OTHERS: dict[str, dict[str, Any]] = {
    "T5": {"vocab_size": 12, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2},
    "ViT": {**SIZES, "image_size": 32, "patch_size": 16},
    "CLIP": {"text_config": SIZES, "vision_config": {**SIZES, "image_size": 32, "patch_size": 16}},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_model_of_something_else_is_named(kind: str, paths: Paths) -> None:
    config = OTHERS[kind]
    save(paths.weights / "tiny", kind, {k: v for k, v in config.items() if kind != "ViT" or k != "vocab_size"})
    with pytest.raises(ValueError, match=rf"tiny: expected an encoder of texts, found a {kind}Model\.$"):
        load(paths.weights / "tiny")


def test_a_tokenizer_must_be_able_to_pad(paths: Paths) -> None:
    from tokenizers import Tokenizer, models

    folder = paths.weights / "tiny"
    save(folder, "GPT2", {"vocab_size": 12, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16})
    (folder / "vocab.txt").unlink()
    words = models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]")
    Tokenizer(words).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}'
    )
    with pytest.raises(ValueError, match=r"tiny: expected a tokenizer with a padding token, found none"):
        load(folder)
    configure(folder / "tokenizer_config.json", pad_token="[PAD]")
    assert load(folder).embed(["ball", "red"]).isfinite().all()


@pytest.mark.parametrize(("kind", "positions"), [("Bert", 34), ("Roberta", 32), ("MPNet", 32)])
def test_no_caption_is_longer_than_the_model_has_positions(kind: str, positions: int, paths: Paths) -> None:
    folder = paths.weights / "tiny"
    save(folder, kind, {**SIZES, "max_position_embeddings": 34, "pad_token_id": 1})
    configure(folder / "tokenizer_config.json", pad_token="[UNK]", unk_token="[PAD]")  # as RoBERTa's, padding is 1
    with pytest.raises(
        ValueError, match=rf"^student\.text\.max_length: {positions + 1} is too many .* the {positions} tokens that"
    ):
        load(folder, max_length=positions + 1)
    assert load(folder, max_length=positions).embed(["ball " * 50]).isfinite().all()


def test_padding_lies_behind_a_text_whatever_the_tokenizer_says(folder: Path) -> None:
    encoder = load(folder, pooling="cls")
    configure(folder / "tokenizer_config.json", padding_side="left")
    captions = ["ball", "a red ball on the grass"]
    torch.testing.assert_close(load(folder, pooling="cls").embed(captions), encoder.embed(captions))


def sentence_encoder(folder: Path, *kinds: str, **first: str) -> None:
    """Make the model one of sentence-transformers with these steps."""
    steps = [
        {"path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    steps[0] |= first
    (folder / "modules.json").write_text(json.dumps(steps))
    sentence_pooling(folder, pooling_mode_cls_token=True)


def test_steps_of_a_sentence_encoder_that_are_taken(folder: Path) -> None:
    sentence_encoder(folder, "Transformer", "Pooling", "Normalize")
    assert load(folder).pooling == "cls"


@pytest.mark.parametrize(
    ("kinds", "first", "expected"),
    [
        (["Transformer", "Pooling", "Dense"], {}, "found Transformer, Pooling, Dense, whose embeddings"),
        (["Transformer", "WeightedLayerPooling", "Pooling"], {}, "found Transformer, WeightedLayerPooling, Pooling"),
        (["BoW", "Dense"], {}, "found BoW, Dense"),
        (["Transformer", "Pooling"], {"path": "0_Transformer"}, "in the folder itself, found '0_Transformer'"),
    ],
)
def test_steps_of_a_sentence_encoder_that_are_not_taken(
    kinds: list[str], first: dict[str, str], expected: str, folder: Path
) -> None:
    sentence_encoder(folder, *kinds, **first)
    with pytest.raises(ValueError, match=rf"^student\.text\.model: .*modules\.json: .*{expected}"):
        load(folder)


def test_a_sentence_encoder_that_normalises_is_normalised(folder: Path) -> None:
    sentence_encoder(folder, "Transformer", "Pooling", "Normalize")
    with pytest.raises(ValueError, match=r"^student\.text\.normalize: false leaves out the step Normalize .*true\.$"):
        load(folder, normalize=False)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("modules.json", {"a": 1}, "expected a list of steps"),
        ("1_Pooling/config.json", [1], "expected a mapping in 1_Pooling/config.json"),
        (
            "config_sentence_transformers.json",
            {"prompts": {"q": "query: "}, "default_prompt_name": "q"},
            "no default_prompt_name, found the prompt 'query: '",
        ),
    ],
)
def test_damaged_files_of_a_sentence_encoder(name: str, given: object, expected: str, folder: Path) -> None:
    sentence_encoder(folder, "Transformer", "Pooling")
    (folder / name).write_text(json.dumps(given))
    with pytest.raises(ValueError, match=rf"^student\.text\.model: 'someone/tiny' cannot be used, .*{expected}"):
        load(folder)
    (folder / name).write_text(POINTER)
    with pytest.raises(ValueError, match=rf"^student\.text\.model: 'someone/tiny' cannot be used, .*{name}"):
        load(folder)


def test_case_that_the_tokenizer_keeps_is_not_lowered_elsewhere(folder: Path) -> None:
    (folder / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    load(folder)
    (folder / "vocab.txt").write_text("\n".join([*WORDS[:-1], "A"]))
    configure(folder / "tokenizer_config.json", do_lower_case=False)
    with pytest.raises(ValueError, match=r"sentence_bert_config\.json: expected do_lower_case: false"):
        load(folder)


def test_a_file_is_no_folder(paths: Paths) -> None:
    paths.weights.mkdir(parents=True, exist_ok=True)
    (paths.weights / "tiny").write_text(POINTER)
    with pytest.raises(ValueError, match=r"tiny: expected a folder, found a file\.$"):
        load(paths.weights / "tiny")


def test_words_are_known_by_more_than_their_punctuation(paths: Paths) -> None:
    folder = paths.weights / "tiny"
    tiny_distilbert(folder)
    (folder / "vocab.txt").write_text("\n".join([*WORDS[:-1], "."]))
    assert load(folder).knows(["a zebra.", "zebra.", "一只狗。", ""]).tolist() == [True, False, False, False]
