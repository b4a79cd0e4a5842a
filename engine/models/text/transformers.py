"""Pretrained language models from a local folder or the Hugging Face hub, pooled to one vector per caption."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, Int32
from torch import Tensor, nn
from torch.nn.functional import normalize as unit

from engine.io.files import digest, read_json
from engine.io.paths import Paths
from engine.models.tokens import EncoderOfTokens, Pooling, TokenEmbeddings, pool, unused_parameters
from engine.models.weights import quiet, reason, weights_digest

POOLINGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_cls": "cls",
}
"""Names in the configuration of a sentence encoder, in the older spelling and the newer."""

BATCH_SIZE = 64
FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]


class TransformersEncoder:
    """A frozen transformers model in evaluation mode whose last hidden states are pooled.

    ``split`` returns the parts of a copy that students train.
    """

    def __init__(self, model: Any, tokenizer: Any, *, pooling: Pooling, max_length: int, normalize: bool) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.max_length = max_length
        self.normalize = normalize
        self.dim: int = model.config.hidden_size
        options = {"pooling": pooling, "max_length": max_length, "normalize": normalize}
        vocabulary = digest(json.dumps(sorted(tokenizer.get_vocab().items())))
        self.key = f"transformers/1 {json.dumps(options)} {weights_digest(model)} {vocabulary}"

    def fit(self, captions: Sequence[str]) -> None:
        """Do nothing: the model is pretrained."""

    def to(self, device: torch.device) -> "TransformersEncoder":
        """Move the model to ``device`` and return the encoder."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def embed(self, captions: Sequence[str]) -> Float32[Tensor, "m dim"]:
        """Return one embedding per caption, unit vectors if ``normalize``; captions are batched by their length."""
        result = torch.empty(len(captions), self.dim)
        order = sorted(range(len(captions)), key=lambda index: len(captions[index]))
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            texts = [captions[index] for index in batch]
            tokens = self.tokenizer(
                texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
            ).to(self.model.device)
            pooled = pool(self.model(**tokens).last_hidden_state, tokens["attention_mask"], pooling=self.pooling)
            result[batch] = (unit(pooled, dim=1) if self.normalize else pooled).float().cpu()
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
        """Return copies of the token embeddings and of the encoder behind them, which students train.

        The copy uses plain attention, because the fused one has no second derivative on the CPU. A pooling layer behind
        the states, which is not used here, is left out.

        Raises:
            ValueError: the model has parameters that its last hidden states do not depend on.
        """
        model = copy.deepcopy(self.model)
        table = model.get_input_embeddings()
        model.set_input_embeddings(nn.Identity())
        model.set_attn_implementation("eager")
        if getattr(model, "pooler", None) is not None:
            model.pooler = None
        encoder = EncoderOfTokens(model, pooling=self.pooling, normalize=self.normalize).eval()
        unused = unused_parameters(encoder, table.embedding_dim + 1)
        if unused:
            raise ValueError(
                f"student.text.train: {type(model).__name__} cannot be trained, because its states do not depend on "
                f"{len(unused)} of its parameters ({unused[0]}...), expected frozen."
            )
        return TokenEmbeddings(table).eval(), encoder


def build(
    paths: Paths,
    *,
    model: str,
    pooling: Literal["auto", "mean", "cls"] = "auto",
    max_length: int = 64,
    normalize: bool = True,
) -> TransformersEncoder:
    """Load the frozen encoder ``model`` from its folder below the weights folder, else by its name from the hub.

    Only safetensors are read. States are pooled by their ``mean``, by the first token (``cls``), or as the model's
    authors do (``auto``). Captions are cut after ``max_length`` tokens. ``normalize`` scales embeddings to unit norm,
    which sentence encoders are made for.

    Raises:
        ValueError: ``max_length`` is too small, the model cannot be found or loaded, or its own pooling is unknown.
    """
    if max_length < 3:
        raise ValueError(f"student.text.max_length: expected at least 3 tokens, got {max_length}.")
    from transformers import AutoModel, AutoTokenizer

    folder = model_folder(paths, model)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            loaded = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder}: expected a transformers model with config.json, tokenizer and safetensors ({reason(error)})."
        ) from error
    chosen = own_pooling(folder, loaded.config) if pooling == "auto" else pooling
    return TransformersEncoder(loaded, tokenizer, pooling=chosen, max_length=max_length, normalize=normalize)


def own_pooling(folder: Path, config: Any) -> Pooling:
    """Return how the authors of the model in ``folder`` pool it.

    A sentence encoder says so in ``1_Pooling/config.json``. For a BERT or DistilBERT trained on masked words it is the
    first token, as in published work on distillation (arXiv 2308.07545); for all others the mean.

    Raises:
        ValueError: the folder asks for a pooling that is neither of these.
    """
    file = folder / "1_Pooling" / "config.json"
    if not file.is_file():
        masked = any(name.endswith(("ForMaskedLM", "ForPreTraining")) for name in config.architectures or ())
        return "cls" if masked and config.model_type in ("bert", "distilbert") else "mean"
    given = read_json(file)
    modes = [name for name, on in given.items() if name.startswith("pooling_mode_") and on is True]
    modes = modes or [f"pooling_mode_{given.get('pooling_mode')}"]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise ValueError(
            f"{file}: expected the pooling of mean_tokens or of cls_token alone, found {', '.join(modes)}."
        )
    return POOLINGS[modes[0]]


def model_folder(paths: Paths, model: str) -> Path:
    """Return the local folder of ``model``, after downloading it from the hub where it is not among the weights.

    Raises:
        ValueError: there is no such folder, and the download failed (it is tried once).
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
            f"student.text.model: {model!r} is neither a folder in {paths.weights} nor available from the Hugging Face "
            f"hub; set VLDD_WEIGHTS to the folder that holds {Path(model).name!r}, or connect to the internet."
        ) from error
