"""Pretrained language models from a local folder or the Hugging Face hub, pooled to one vector per caption."""

import copy
import json
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int32
from torch import Tensor, nn
from torch.nn.functional import normalize as unit

from engine.io.files import digest
from engine.io.paths import Paths
from engine.io.progress import tell
from engine.models.sentence_encoder import check_modules, own_pooling
from engine.models.tokens import EncoderOfTokens, Pooling, TokenEmbeddings, pool, unused_parameters
from engine.models.transformers import KEY, LoadedModel, load_language_model, model_folder, word_ids
from engine.models.weights import Source, weights_digest

BATCH_SIZE = 64


class TransformersEncoder:
    """A frozen transformers model in evaluation mode whose last hidden states are pooled.

    ``split`` returns the parts of a copy that students train.
    """

    def __init__(self, loaded: LoadedModel, *, pooling: Pooling, max_length: int, normalize: bool) -> None:
        model, tokenizer, self.dim = loaded
        self.model = model.requires_grad_(False)
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.max_length = max_length
        self.normalize = normalize
        self.words = word_ids(tokenizer)
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
            tell(len(batch))
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

    def knows(self, captions: Sequence[str]) -> Bool[np.ndarray, "m"]:
        """Return which captions hold a token that is neither unknown nor punctuation."""
        return np.asarray(np.isin(self.tokens(captions), self.words).any(axis=1))

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
        ValueError: ``max_length`` is too small or too large, the model cannot be found or loaded, or its embeddings
            are made in a way that is unknown here.
    """
    if max_length < 3:
        raise ValueError(f"student.text.max_length: expected at least 3 tokens, got {max_length}.")
    folder = model_folder(paths, model)
    source = Source(KEY, model, folder)
    with source.loading("a transformers model with config.json, tokenizer and safetensors"):
        loaded = load_language_model(source, folder, max_length=max_length)
        check_modules(source, folder, loaded.tokenizer, normalize=normalize)
        chosen = own_pooling(source, folder, loaded.model.config) if pooling == "auto" else pooling
        return TransformersEncoder(loaded, pooling=chosen, max_length=max_length, normalize=normalize)
