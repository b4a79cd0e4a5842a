"""Frozen pretrained language models from a local folder or the Hugging Face hub, pooled to one vector a caption."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from engine.files import digest
from engine.places import Places

Pooling = Literal["mean", "cls"]

BATCH_SIZE = 64
FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]


class TransformersEncoder:
    """A frozen transformers model in evaluation mode whose last hidden states are pooled."""

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

    def _embed_batch(self, captions: list[str]) -> Float32[Tensor, "b dim"]:
        tokens = self.tokenizer(
            captions, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        )
        hidden = self.model(**tokens.to(self.model.device)).last_hidden_state
        pooled = pool(hidden, tokens["attention_mask"], pooling=self.pooling)
        return (torch.nn.functional.normalize(pooled, dim=1) if self.normalize else pooled).float().cpu()


def build(
    places: Places, *, model: str, pooling: Pooling = "mean", max_length: int = 64, normalize: bool = True
) -> TransformersEncoder:
    """Load the frozen encoder ``model`` from the weights folder, or by its hub name where it is not there.

    Args:
        places: where weights lie.
        model: hub name, or name of a folder below ``places.weights``; only safetensors are read.
        pooling: ``mean`` over the words, or the state of the first token (``cls``).
        max_length: tokens after which a caption is cut.
        normalize: scale embeddings to unit norm, as sentence encoders are meant to be used.

    Raises:
        ValueError: ``max_length`` is too small, or the model is neither in the weights folder nor reachable.
    """
    if max_length < 3:
        raise ValueError(f"text.max_length: expected at least 3 tokens, got {max_length}.")
    loaded, tokenizer = load_pretrained(model_folder(places, model))
    return TransformersEncoder(loaded, tokenizer, pooling=pooling, max_length=max_length, normalize=normalize)


def model_folder(places: Places, model: str) -> Path:
    """Return the local folder of ``model``, after downloading it from the hub where it is not among the weights.

    Raises:
        ValueError: there is no such folder and the hub did not give it either (tried once, without retries).
    """
    local = places.weights_path(model)
    if local is not None:
        return local
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(model, allow_patterns=FILES, etag_timeout=5))
    except (OSError, HFValidationError) as error:
        raise ValueError(
            f"text.model: {model!r} is neither a folder in {places.weights} nor to be had from the Hugging Face hub; "
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


def pool(
    hidden: Float[Tensor, "b words dim"], mask: Int64[Tensor, "b words"], *, pooling: Pooling
) -> Float[Tensor, "b dim"]:
    """Return the mean of the states where ``mask`` is 1, or the state of the first token."""
    if pooling == "cls":
        return hidden[:, 0]
    weight = mask.unsqueeze(-1).to(hidden)
    return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)


def weights_digest(model: Any) -> str:
    """Return a digest of names and values of everything in the model's state."""
    state = sorted(model.state_dict().items())
    return digest(*(part for name, value in state for part in (name, value.cpu().contiguous().numpy().tobytes())))


def vocabulary_digest(tokenizer: Any) -> str:
    """Return a digest of the words the tokenizer knows and their numbers."""
    return digest(json.dumps(sorted(tokenizer.get_vocab().items())))
