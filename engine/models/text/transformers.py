"""Pretrained language models from a local folder or the Hugging Face hub, pooled to one vector a caption."""

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, Int32
from torch import Tensor, nn

from engine.io.files import digest, read_json
from engine.io.paths import Paths
from engine.models.text._tokens import EncoderOfTokens, Pooling, TokenEmbeddings, pool, unreached

_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_cls": "cls",
}

BATCH_SIZE = 64
FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]


class TransformersEncoder:
    """A frozen transformers model in evaluation mode whose last hidden states are pooled.

    ``split`` gives the parts of a copy that students train.
    """

    def __init__(self, model: Any, tokenizer: Any, *, pooling: Pooling, max_length: int, normalize: bool) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.max_length = max_length
        self.normalize = normalize
        self.dim: int = model.config.hidden_size
        options = {"pooling": pooling, "max_length": max_length, "normalize": normalize}
        self.key = f"transformers/1 {json.dumps(options)} {weights_digest(model)} {vocabulary_digest(tokenizer)}"

    def fit(self, captions: Sequence[str]) -> None:
        """Do nothing: the model is pretrained."""

    @torch.no_grad()
    def embed(self, captions: Sequence[str]) -> Float32[Tensor, "m dim"]:
        """Return one embedding a caption, unit vectors if ``normalize``; captions are batched by their length."""
        result = torch.empty(len(captions), self.dim)
        order = sorted(range(len(captions)), key=lambda index: len(captions[index]))
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            result[batch] = self._embed_batch([captions[index] for index in batch])
        return result

    def tokens(self, captions: Sequence[str]) -> Int32[np.ndarray, "m n"]:
        """Return the token ids of each caption, cut after ``max_length`` and filled up to it with -1."""
        encoded = self.tokenizer(
            list(captions),
            padding="max_length",
            padding_side="right",
            truncation=True,
            max_length=self.max_length,
            return_tensors="np",
        )
        return np.where(encoded["attention_mask"] == 1, encoded["input_ids"], -1).astype(np.int32)

    def split(self) -> tuple[nn.Module, nn.Module]:
        """Return copies of the token embeddings and of all that follows, for students that train the latter.

        Attention is the plain one there, because the fused one has no second derivative on the CPU; a pooling layer
        behind the states, which nothing here uses, is left out.

        Raises:
            ValueError: not all of the model's parameters take part in its last hidden states.
        """
        model = copy.deepcopy(self.model)
        table = model.get_input_embeddings()
        model.set_input_embeddings(nn.Identity())
        model.set_attn_implementation("eager")
        if getattr(model, "pooler", None) is not None:
            model.pooler = None
        encoder = EncoderOfTokens(model, pooling=self.pooling, normalize=self.normalize).eval()
        idle = unreached(encoder, table.embedding_dim + 1)
        if idle:
            raise ValueError(
                f"student.text.train: {type(model).__name__} cannot be trained, because its states do not depend on "
                f"{len(idle)} of its parameters ({idle[0]}...), expected frozen."
            )
        return TokenEmbeddings(table).eval(), encoder

    def _embed_batch(self, captions: list[str]) -> Float32[Tensor, "b dim"]:
        tokens = self.tokenizer(
            captions, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        )
        hidden = self.model(**tokens.to(self.model.device)).last_hidden_state
        pooled = pool(hidden, tokens["attention_mask"], pooling=self.pooling)
        return (torch.nn.functional.normalize(pooled, dim=1) if self.normalize else pooled).float().cpu()


def build(
    paths: Paths,
    *,
    model: str,
    pooling: Literal["auto", "mean", "cls"] = "auto",
    max_length: int = 64,
    normalize: bool = True,
) -> TransformersEncoder:
    """Load the frozen encoder ``model`` from the weights folder, or by its hub name where it is not there.

    Args:
        places: where weights lie.
        model: hub name, or name of a folder below ``places.weights``; only safetensors are read.
        pooling: ``mean`` over the words, the state of the first token (``cls``), or what the model was made for.
        max_length: tokens after which a caption is cut.
        normalize: scale embeddings to unit norm, as sentence encoders are meant to be used.

    Raises:
        ValueError: ``max_length`` is too small, the model is neither in the weights folder nor reachable, or its own
            pooling is another.
    """
    if max_length < 3:
        raise ValueError(f"text.max_length: expected at least 3 tokens, got {max_length}.")
    folder = model_folder(paths, model)
    loaded, tokenizer = load_pretrained(folder)
    chosen = own_pooling(folder, loaded.config) if pooling == "auto" else pooling
    return TransformersEncoder(loaded, tokenizer, pooling=chosen, max_length=max_length, normalize=normalize)


def own_pooling(folder: Path, config: Any) -> Pooling:
    """Return how the model in ``folder`` is meant to be pooled.

    A sentence encoder says so in ``1_Pooling/config.json``. A BERT or DistilBERT that was trained on masked words
    gives its first token, as published work on distillation takes it (arXiv 2308.07545); all else the mean.

    Raises:
        ValueError: the folder asks for a pooling that is neither of these.
    """
    file = folder / "1_Pooling" / "config.json"
    if file.is_file():
        return _pooling_of(file)
    masked = any(name.endswith(("ForMaskedLM", "ForPreTraining")) for name in config.architectures or ())
    return "cls" if masked and config.model_type in ("bert", "distilbert") else "mean"


def _pooling_of(file: Path) -> Pooling:
    """Read the configuration of a sentence encoder's pooling, in the older spelling or the newer."""
    given = read_json(file)
    modes = [name for name, on in given.items() if name.startswith("pooling_mode_") and on is True]
    modes = modes or [f"pooling_mode_{given.get('pooling_mode')}"]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise ValueError(
            f"{file}: expected the pooling of mean_tokens or of cls_token alone, found {', '.join(modes)}."
        )
    return _POOLINGS[modes[0]]


def model_folder(paths: Paths, model: str) -> Path:
    """Return the local folder of ``model``, after downloading it from the hub where it is not among the weights.

    Raises:
        ValueError: there is no such folder and the hub did not give it either (tried once, without retries).
    """
    local = paths.weights_path(model)
    if local is not None:
        return local
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(model, allow_patterns=FILES, etag_timeout=5))
    except (OSError, HFValidationError) as error:
        raise ValueError(
            f"text.model: {model!r} is neither a folder in {paths.weights} nor to be had from the Hugging Face hub; "
            f"set VLDD_WEIGHTS to the folder that holds {Path(model).name!r}, or connect to the internet."
        ) from error


def load_pretrained(folder: Path) -> tuple[Any, Any]:
    """Load model and tokenizer from a folder, quietly and without the network.

    Raises:
        ValueError: the folder does not hold a transformers model in safetensors.
    """
    from transformers import AutoModel, AutoTokenizer

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{folder}: expected a transformers model with config.json, tokenizer and safetensors ({reason})."
        ) from error
    return model, tokenizer


@contextmanager
def quiet() -> Iterator[None]:
    """Switch off the bars and remarks of transformers inside the block."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def weights_digest(model: Any) -> str:
    """Return a digest of names and values of everything in the model's state."""
    state = sorted(model.state_dict().items())
    return digest(*(part for name, value in state for part in (name, value.cpu().contiguous().numpy().tobytes())))


def vocabulary_digest(tokenizer: Any) -> str:
    """Return a digest of the words the tokenizer knows and their numbers."""
    return digest(json.dumps(sorted(tokenizer.get_vocab().items())))
