from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.data.cache import caption_embeddings
from engine.io.paths import Paths
from engine.models.text import tfidf


class LengthEncoder:
    """Embeds a caption as its length; remembers what it was asked."""

    dim = 2

    def __init__(self, key: str) -> None:
        self.key = key
        self.asked: list[str] = []

    def fit(self, captions: Sequence[str]) -> None:
        """Nothing to fit."""

    def to(self, device: torch.device) -> "LengthEncoder":
        return self

    def embed(self, captions: Sequence[str]) -> Tensor:
        self.asked.extend(captions)
        return torch.tensor([[len(caption), 1.0] for caption in captions])


def test_embedded_once_in_order(tmp_path: Path) -> None:
    captions = ["a" * (index % 7) for index in range(5000)]  # more than a chunk
    first = caption_embeddings(LengthEncoder("x"), captions, tmp_path)
    encoder = LengthEncoder("x")
    again = caption_embeddings(encoder, captions, tmp_path)
    assert encoder.asked == []
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(again[:, 0], [len(caption) for caption in captions])
    assert isinstance(again, np.memmap)


def test_other_encoder_or_captions_are_embedded_anew(tmp_path: Path) -> None:
    caption_embeddings(LengthEncoder("x"), ["ab", "c"], tmp_path)
    for key, captions in (("y", ["ab", "c"]), ("x", ["a", "bc"]), ("x", ["c", "ab"])):
        encoder = LengthEncoder(key)
        caption_embeddings(encoder, captions, tmp_path)
        assert encoder.asked == captions


def test_refitted_encoder_is_another_encoder(paths: Paths) -> None:
    encoder = tfidf.build(paths, dim=2)
    captions = ["red ball", "blue box", "red box on blue ball"]
    encoder.fit(captions)
    first = caption_embeddings(encoder, captions, paths.cache)
    encoder.fit([*captions, "green star above red ball"])
    second = caption_embeddings(encoder, captions, paths.cache)
    assert len(list(paths.cache.rglob("*.npy"))) == 2
    assert not np.allclose(first, second)
