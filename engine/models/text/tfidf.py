"""Bag of words: TF-IDF followed by a truncated SVD, fitted on the training captions; needs no weights."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from engine.determinism import one_thread
from engine.io.files import digest
from engine.io.paths import Paths
from engine.models.words import analyzer
from engine.ranges import Count

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


class TfidfEncoder:
    """Latent semantic analysis of captions; call ``fit`` before ``embed``."""

    def __init__(self, *, dim: int, ngrams: int) -> None:
        self.dim = dim
        self.ngrams = ngrams
        self._captions: Sequence[str] = ()
        self._fitted: Pipeline | None = None

    @property
    def key(self) -> str:
        """Options and a digest of the captions to fit on."""
        options = json.dumps({"dim": self.dim, "ngrams": self.ngrams})
        return f"tfidf/3 {options} {digest(*self._captions) if self._captions else 'not fitted'}"

    def fit(self, captions: Sequence[str]) -> None:
        """Take the training captions; they are fitted when the first caption is embedded, so not if all are cached."""
        self._captions = captions
        self._fitted = None

    def to(self, device: torch.device) -> "TfidfEncoder":
        """Do nothing: the computation is sparse and stays on the CPU."""
        return self

    def embed(self, captions: Sequence[str]) -> Float32[Tensor, "m dim"]:
        """Return unit vectors; a caption without a known word is the zero vector.

        Raises:
            ValueError: the training captions hold fewer words, or are fewer, than ``dim``, or hold none.
        """
        assert self._captions, "fit the encoder on the training captions first"
        self._fitted = self._fitted or self._fit()
        rows = self._fitted.transform(captions).astype(np.float32)
        return torch.nn.functional.normalize(torch.from_numpy(rows), dim=1)

    def _fit(self) -> "Pipeline":
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import Pipeline

        vectorizer = TfidfVectorizer(analyzer=analyzer(self.ngrams), sublinear_tf=True, dtype=np.float32)
        try:
            counts = vectorizer.fit_transform(self._captions)
        except ValueError as error:  # an empty vocabulary
            raise ValueError(
                f"student.text.encoder: tfidf cannot be fitted to the captions: none of the {len(self._captions)} "
                "training captions holds a word, expected words."
            ) from error
        if self.dim > min(counts.shape):
            raise ValueError(
                f"student.text.dim: {self.dim} is too many for {counts.shape[0]} captions with {counts.shape[1]} "
                f"terms, expected at most {min(counts.shape)}."
            )
        with one_thread():
            projection = TruncatedSVD(self.dim, n_iter=5, random_state=0).fit(counts)
        return Pipeline([("weights", vectorizer), ("projection", projection)])


def build(paths: Paths, *, dim: Count = 128, ngrams: Count = 2) -> TfidfEncoder:
    """Return an unfitted encoder with ``dim`` components over runs of 1 to ``ngrams`` words; ``paths`` is not read.

    In scripts without blanks between words, the terms are runs of 1 to ``ngrams`` + 1 characters.
    """
    return TfidfEncoder(dim=dim, ngrams=ngrams)
