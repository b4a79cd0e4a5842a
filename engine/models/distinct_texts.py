"""Check that a text encoder tells the captions of a split apart."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool

from engine.models.text import EncoderWithVocabulary, TextEncoder

SHARE = 0.1
"""Share of the different captions of a split that an encoder may not know, or may give the same vector."""
COMPARED = 128
"""Captions that all others are compared with: a vector that a tenth share is almost surely that of one of them."""


def check_distinct(name: str, split: str, encoder: TextEncoder, captions: Sequence[str], inputs: np.ndarray) -> None:
    """Check that ``inputs``, embeddings [m, dim] or token ids [m, n], differ where the captions of ``split`` do.

    Captions count as one where they differ in case, blanks and punctuation alone. Two that share a vector are no fault.

    Raises:
        ValueError: more than ``SHARE`` of the different captions hold no word that the encoder ``name`` knows, or fall
            on one vector.
    """
    chosen = _different(captions)
    rows, texts = inputs[chosen], [captions[index] for index in chosen]
    known = encoder.knows(texts) if isinstance(encoder, EncoderWithVocabulary) else np.asarray(rows.any(axis=1))
    _refuse_unknown(name, split, texts, known)
    if (same := _largest_group(rows)) > max(SHARE * len(texts), 2):
        raise ValueError(
            f"student.text.encoder: {name} maps {same} of the {len(texts)} different captions of {split} to one and "
            "the same vector, expected at most a tenth; choose an encoder of their language, or a larger "
            "student.text.max_length or student.text.dim."
        )


def check_known(name: str, split: str, encoder: TextEncoder, captions: Sequence[str]) -> None:
    """Check captions as ``check_distinct`` does, but before they are embedded, by the vocabulary of the encoder.

    Raises:
        ValueError: more than ``SHARE`` of the different captions hold no word that the encoder ``name`` knows.
    """
    if isinstance(encoder, EncoderWithVocabulary):
        texts = [captions[index] for index in _different(captions)]
        _refuse_unknown(name, split, texts, encoder.knows(texts))


def _refuse_unknown(name: str, split: str, texts: Sequence[str], known: Bool[np.ndarray, " m"]) -> None:
    if (unknown := int((~known).sum())) > SHARE * len(texts):
        raise ValueError(
            f"student.text.encoder: {name} knows no word in {unknown} of the {len(texts)} different captions of "
            f"{split} (such as {texts[int(known.argmin())]!r}), expected at most a tenth; choose an encoder of their "
            "language, or training captions in it."
        )


def _different(captions: Sequence[str]) -> list[int]:
    """Return the first of the captions that count as one."""
    first: dict[str, int] = {}
    for index, caption in enumerate(captions):
        first.setdefault(_plain(caption), index)
    return [*first.values()]


def _plain(caption: str) -> str:
    return "".join(c for c in caption.casefold() if unicodedata.category(c)[0] not in "PZC")


def _largest_group(rows: np.ndarray) -> int:
    """Return how many rows are the same, up to rounding, as one of at most ``COMPARED``; the largest such number."""
    if rows.dtype.kind == "i":
        return int(np.unique(rows, axis=0, return_counts=True)[1].max())
    vectors = torch.from_numpy(rows)
    some = vectors[:: -(-len(vectors) // COMPARED)]
    distances = torch.cdist(vectors, some, compute_mode="donot_use_mm_for_euclid_dist")  # the other mode is too coarse
    return int((distances <= 1e-5 * vectors.norm(dim=1).max()).sum(dim=0).max())
