"""The frozen text tower of any CLIP of open_clip, with its projection into the space that CLIP shares with images."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor, nn

from engine.io.files import digest
from engine.io.paths import Paths
from engine.io.progress import tell
from engine.models.open_clip import load_clip
from engine.models.transformers import check_vocabulary, word_ids
from engine.models.weights import Source, weights_digest

BATCH_SIZE = 64
PROBES = ["a dog runs across the grass", "Two people, 3 bicycles & a red car!"]
"""Texts whose token ids distinguish tokenizers of different rules."""


class OpenClipEncoder:
    """A frozen CLIP text tower in evaluation mode; ``tokenize`` cuts captions to the length that it was made for."""

    def __init__(self, model: Any, tokenize: Callable[[list[str]], Int64[Tensor, "b n"]], *, normalize: bool) -> None:
        model.visual = nn.Identity()  # the image tower is not needed, nor part of the identity
        self.model = model.eval().requires_grad_(False)
        self.tokenize = tokenize
        self.normalize = normalize
        self.device = torch.device("cpu")
        self.dim = len(self.embed(PROBES[:1])[0])
        tokenizer = getattr(tokenize, "tokenizer", None)
        self.words = None if tokenizer is None else word_ids(tokenizer)
        options = json.dumps({"normalize": normalize, "tokens": tokenize(PROBES).tolist()})
        self.key = f"open_clip/1 {digest(options)} {weights_digest(model)}"

    def fit(self, captions: Sequence[str]) -> None:
        """Do nothing: the model is pretrained."""

    def to(self, device: torch.device) -> "OpenClipEncoder":
        """Move the model to ``device`` and return the encoder."""
        self.model.to(device)
        self.device = device
        return self

    @torch.no_grad()
    def embed(self, captions: Sequence[str]) -> Float32[Tensor, "m dim"]:
        """Return one projected embedding per caption, unit vectors if ``normalize``."""
        batches = [list(captions[start : start + BATCH_SIZE]) for start in range(0, len(captions), BATCH_SIZE)]
        embedded = []
        for batch in batches:
            ids = self.tokenize(batch).to(self.device)
            embedded.append(self.model.encode_text(ids, normalize=self.normalize).float().cpu())
            tell(len(batch))
        return torch.cat(embedded) if embedded else torch.empty(0, self.dim)

    def knows(self, captions: Sequence[str]) -> Bool[np.ndarray, "m"]:
        """Return which captions hold a token that is neither unknown nor punctuation."""
        if self.words is None:  # the tokenizer of open_clip itself spells every word
            return np.ones(len(captions), dtype=bool)
        return np.asarray(np.isin(self.tokenize(list(captions)).numpy(), self.words).any(axis=1))


def build(
    paths: Paths, *, model: str, pretrained: str | None = None, weights: str | None = None, normalize: bool = True
) -> OpenClipEncoder:
    """Build the text tower of ``model`` with its tokenizer; ``load_clip`` says where weights come from.

    Raises:
        FileNotFoundError: ``weights`` does not exist.
        ValueError: there is no such model or tag, its weights or its tokenizer cannot be loaded, or none are named.
    """
    loaded = load_clip(paths, model=model, pretrained=pretrained, weights=weights, key="student.text")
    if not loaded.pretrained:
        raise ValueError(f"student.text.pretrained: {model} is frozen, expected a tag of its weights, or text.weights.")
    import open_clip

    source = Source("student.text.model", model, loaded.name)
    with source.loading("a CLIP with its tokenizer"):
        try:
            tokenize = open_clip.get_tokenizer(loaded.name, trust_remote_code=False)
        except TypeError as error:  # a tokenizer of open_clip itself takes no such option
            if "trust_remote_code" not in str(error):
                raise
            tokenize = open_clip.get_tokenizer(loaded.name)
        text = getattr(loaded.model, "text", loaded.model)
        table = getattr(text, "token_embedding", None) or text.transformer.get_input_embeddings()
        if hasattr(tokenize, "tokenizer"):
            check_vocabulary(source, tokenize.tokenizer, embeddings=len(table.weight))
        return OpenClipEncoder(loaded.model, tokenize, normalize=normalize)
