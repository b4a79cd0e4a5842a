"""Caption embeddings made once and read through a memory map."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32
from tqdm import tqdm

from engine.data.array_cache import cached_array
from engine.files import digest
from engine.models.text import TextEncoder, TrainableTextEncoder

CHUNK = 4096  # captions embedded at once: encoders sort by length within it


def caption_embeddings(encoder: TextEncoder, captions: Sequence[str], cache: Path) -> Float32[np.ndarray, "m dim"]:
    """Return the embeddings of ``captions``, in their order, as a read-only memory map below ``cache``.

    The file is keyed by ``encoder.key`` and the captions; an encoder that is fitted must be fitted before.
    """

    def fill(array: np.ndarray) -> None:
        with tqdm(total=len(captions), desc="embedding captions", disable=None) as bar:
            for start in range(0, len(captions), CHUNK):
                chunk = captions[start : start + CHUNK]
                array[start : start + len(chunk)] = encoder.embed(chunk).numpy()
                bar.update(len(chunk))

    key = digest("caption_embeddings/1", encoder.key, *captions)
    shape = (len(captions), encoder.dim)
    return cached_array(cache / "captions", key, shape=shape, dtype=np.float32, fill=fill)


def caption_tokens(encoder: TrainableTextEncoder, captions: Sequence[str], cache: Path) -> Int32[np.ndarray, "m n"]:
    """Return the token ids of ``captions``, -1 behind their ends, as a read-only memory map below ``cache``."""

    def fill(array: np.ndarray) -> None:
        for start in range(0, len(captions), CHUNK):
            chunk = captions[start : start + CHUNK]
            array[start : start + len(chunk)] = encoder.tokens(chunk)

    key = digest("caption_tokens/1", encoder.key, *captions)
    shape = (len(captions), encoder.max_length)
    return cached_array(cache / "captions", key, shape=shape, dtype=np.int32, fill=fill)
