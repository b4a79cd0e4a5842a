"""Text encoders, one a file: ``build(paths, *, options...) -> TextEncoder``."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int32
from torch import Tensor, nn


@runtime_checkable
class TextEncoder(Protocol):
    """A frozen encoder that turns captions into vectors."""

    @property
    def dim(self) -> int:
        """Length of an embedding; known before ``fit``."""
        ...

    @property
    def key(self) -> str:
        """Identity for caches: name, options, and a digest of the weights or of the captions fitted on."""
        ...

    def fit(self, captions: Sequence[str]) -> None:
        """Fit on training captions; does nothing where the encoder is not fitted."""
        ...

    def to(self, device: torch.device) -> "TextEncoder":
        """Move the weights to ``device`` in place, where captions are embedded from then on, and return the encoder."""
        ...

    def embed(self, captions: Sequence[str]) -> Float32[Tensor, "m dim"]:
        """Return one embedding per caption, without a graph and on the CPU wherever it was computed."""
        ...


@runtime_checkable
class EncoderWithVocabulary(TextEncoder, Protocol):
    """An encoder whose tokenizer does not know every word."""

    def knows(self, captions: Sequence[str]) -> Bool[np.ndarray, "m"]:
        """Return which captions hold a word, or a part of one, that the encoder knows."""
        ...


@runtime_checkable
class TrainableTextEncoder(TextEncoder, Protocol):
    """An encoder that students can train themselves, from token embeddings on."""

    max_length: int
    """Tokens of the longest text."""

    def tokens(self, captions: Sequence[str]) -> Int32[np.ndarray, "m n"]:
        """Return the token ids of each caption, -1 behind its end."""
        ...

    def split(self) -> tuple[nn.Module, nn.Module]:
        """Return copies of the token embeddings and of the encoder behind them, on the device of the encoder."""
        ...
