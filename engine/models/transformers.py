"""Load a language model of transformers with its tokenizer, and refuse files without all of its weights."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from engine.io.paths import Paths
from engine.models.packages import installed, to_install
from engine.models.weights import Source, Unusable

FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
KEY = "student.text.model"
PADDED = 0.02
"""Share of the embeddings that may have no token: authors pad their number to a multiple of up to 128, or to 51,200."""
PROBED = 512
"""Tokens of the longest text that is embedded to try a model."""


class LoadedModel(NamedTuple):
    """A language model in evaluation mode, its tokenizer, and the width of its last hidden states."""

    model: Any
    tokenizer: Any
    width: int


def load_language_model(source: Source, folder: Path, *, max_length: int) -> LoadedModel:
    """Load the model in ``folder`` with its tokenizer, which pads behind a text; only safetensors are read, no code.

    A pooling layer behind the last hidden states is left out where the file has no weights of it.

    Raises:
        Unusable: the folder holds no model of texts, its weights or its tokenizer are not those of its configuration,
            or it has fewer positions than ``max_length``.
        Exception: of any kind that the library raises for damaged files; call this inside ``source.loading``.
    """
    from transformers import AutoModel, AutoTokenizer

    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    model, report = AutoModel.from_pretrained(
        folder,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are refused below, by name
        **local,
    )
    sees = any(hasattr(model.config, f"{sense}_config") for sense in ("vision", "audio"))
    if sees or model.config.is_encoder_decoder or model.main_input_name != "input_ids":
        raise source.error(f"expected an encoder of texts, found a {type(model).__name__}")
    _check_weights(source, model, report)
    tokenizer = AutoTokenizer.from_pretrained(folder, **local)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token_id is None:
        raise source.error("expected a tokenizer with a padding token, found none (pad_token in tokenizer_config.json)")
    check_vocabulary(source, tokenizer, embeddings=len(model.get_input_embeddings().weight))
    positions = _positions(model)
    if positions is not None and max_length > positions:
        raise Unusable(
            f"student.text.max_length: {max_length} is too many for {source.value!r}, {folder}: expected at most the "
            f"{positions} tokens that the model has positions for."
        )
    return LoadedModel(model.eval(), tokenizer, _width(source, model, tokenizer, max_length))


def _check_weights(source: Source, model: Any, report: dict[str, Any]) -> None:
    """Refuse weights of another shape than the configuration says, and those that were drawn anew."""
    import transformers

    for name, given, wanted in sorted(report["mismatched_keys"])[:1]:
        raise source.error(
            f"expected weights of the sizes in config.json, but {name} has {list(given)} instead of {list(wanted)} "
            f"({len(report['mismatched_keys'])} differ)"
        )
    missing = set(report["missing_keys"])
    if getattr(model, "pooler", None) is not None and any(name.startswith("pooler.") for name in missing):
        model.pooler, missing = None, {name for name in missing if not name.startswith("pooler.")}
    source.check_names(model, missing=missing, unexpected=report["unexpected_keys"])
    source.check_finite(model)
    classes = [name for name in model.config.architectures or () if not hasattr(transformers, name)]
    if classes and report["unexpected_keys"]:
        raise source.error(
            f"expected a model of transformers, but its authors' {classes[0]} adds layers of its own "
            f"({min(report['unexpected_keys'])})"
        )


def check_vocabulary(source: Source, tokenizer: Any, *, embeddings: int) -> None:
    """Refuse a tokenizer that was not made for a model with this number of token embeddings.

    Special tokens beyond the vocabulary do not count: libraries add those that a vocabulary lacks.

    Raises:
        Unusable: tokens have no embedding, or more than ``PADDED`` of the embeddings have no token.
    """
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids = {
        number for number in tokenizer.get_vocab().values() if number < tokenizer.vocab_size or number not in special
    }
    if len(ids) < (1 - PADDED) * embeddings or max(ids, default=0) >= embeddings:
        raise source.error(
            f"expected a tokenizer of the {embeddings} tokens that the model has embeddings of, found {len(ids)} in "
            "its vocabulary"
        )


def word_ids(tokenizer: Any) -> np.ndarray:
    """Return the ids of the tokens that stand for something: no special ones, and with a letter or a digit.

    A tokenizer without a token for the unknown spells everything, so all its tokens but the special ones count.
    """
    spells, special = tokenizer.unk_token_id is None, {*tokenizer.all_special_ids}
    vocabulary = tokenizer.get_vocab().items()
    return np.array([i for token, i in vocabulary if i not in special and (spells or any(map(str.isalnum, token)))])


def _positions(model: Any) -> int | None:
    """Return how many tokens the model can read, or None if it says nothing on it.

    RoBERTa and its kin count positions from the one behind that of padding.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    tables = (m for name, m in model.named_modules() if name.endswith("position_embeddings"))
    padding = next((getattr(table, "padding_idx", None) for table in tables), None)
    return positions - (0 if padding is None else padding + 1)


@torch.no_grad()
def _width(source: Source, model: Any, tokenizer: Any, max_length: int) -> int:
    """Return the width of the last hidden states, after embedding a short text and one as long as texts may be."""
    length = min(max_length, PROBED)
    with source.loading(f"a {type(model).__name__} that reads texts of up to {length} tokens"):
        texts = ["a \U0010fffd \u2603", "a " * length]  # with characters that few tokenizers know
        tokens = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
        states = model(**tokens).last_hidden_state
    if states.shape[:2] != tokens["attention_mask"].shape or not states.isfinite().all():
        raise source.error(f"expected a finite state of each token from the {type(model).__name__}, found others")
    return int(states.shape[2])


def model_folder(paths: Paths, model: str) -> Path:
    """Return the local folder of ``model``: among the weights, else of an installed package, else from the hub.

    Raises:
        ValueError: there is no such folder, and the download failed (it is tried once); or the package is unusable.
    """
    local = paths.weights_path(model) or installed(model)
    if local is not None:
        if not local.is_dir():
            raise Source(KEY, model, local).error("expected a folder, found a file")
        return local
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, allow_patterns=FILES, etag_timeout=5))
    except Exception as error:
        raise ValueError(
            f"{KEY}: {model!r} is neither a folder in {paths.weights} nor available from the Hugging Face "
            f"hub; set VLDD_WEIGHTS to the folder that holds {Path(model).name!r}, "
            f"{to_install(model)}or connect to the internet."
        ) from error
