"""Coresets, one a file: ``select(warmup, num_pairs, generator, *, ...)`` returns the indices of distinct real pairs.

All raise a ValueError where ``num_pairs`` is below 1 or above the number of pairs, or an option is none of its words.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.io.files import atomic_path
from engine.io.storage import Location, as_file

FORMAT_VERSION = 2

Feature = Literal["concat", "sum"]
"""How the two embeddings of a pair become one vector: concatenated, or added."""

HALF_ABOVE = 2**26
"""Numbers of features (256 MiB in float32) above which they are stored in float16."""

CHUNK = 16384
"""Rows of features that are converted to float32 at once."""


@dataclass(frozen=True)
class WarmupStatistics:
    """What a warm-up student has learned about ``n`` real images and their ``m`` captions; one caption is one pair.

    ``forgetting`` counts how often a pair went from correct (in-batch rank 1 in both directions) to incorrect between
    two epochs. ``never_learned`` marks the pairs that were in a batch and never correct; ``never_seen`` marks those
    that were in no batch. The counts of both are 0.
    """

    image_features: Float[Tensor, "n d"]  # L2-normalised
    text_features: Float[Tensor, "m d"]  # L2-normalised
    caption_image: Int64[Tensor, " m"]
    forgetting: Int64[Tensor, " m"]
    never_learned: Bool[Tensor, " m"]
    never_seen: Bool[Tensor, " m"]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.caption_image)


def compact(images: Float[Tensor, "n d"], texts: Float[Tensor, "m d"]) -> tuple[Tensor, Tensor]:
    """Return features as they are stored: in float16 where they are many (COCO), else as they are."""
    many = images.numel() + texts.numel() > HALF_ABOVE
    return (images.half(), texts.half()) if many else (images, texts)


class JointFeatures:
    """One float32 vector for each pair, computed from the features of its image and its caption when it is needed.

    Neither ``concat`` nor ``sum`` is normalised again. No array of all pairs by all dimensions is made.

    Raises:
        ValueError: ``feature`` is unknown, or a feature is not finite, as after a warm-up that diverged.
    """

    def __init__(self, warmup: WarmupStatistics, feature: Feature) -> None:
        if feature not in get_args(Feature):
            raise ValueError(f"feature: expected one of {', '.join(get_args(Feature))}, found {feature!r}.")
        self.images, self.texts, self.owner = warmup.image_features, warmup.text_features, warmup.caption_image
        self.feature = feature
        if not all(part.isfinite().all() for side in (self.images, self.texts) for part in side.split(CHUNK)):
            raise ValueError("Coresets need finite features, but some are NaN or infinite: did the warm-up diverge?")

    def __getitem__(self, pairs: Int64[Tensor, " b"] | slice) -> Float[Tensor, "b k"]:
        """Return the vectors of some pairs."""
        image, text = self.images[self.owner[pairs]].float(), self.texts[pairs].float()
        return torch.cat([image, text], dim=1) if self.feature == "concat" else image + text

    def chunks(self) -> Iterator[Float[Tensor, "b k"]]:
        """Yield the vectors of all pairs in their order, ``CHUNK`` at a time."""
        yield from (self[first : first + CHUNK] for first in range(0, len(self.owner), CHUNK))

    def squared_norms(self) -> Float[Tensor, " m"]:
        """Return the squared length of every vector."""
        norms = self.texts.new_empty(len(self.owner), dtype=torch.float32)
        for part, chunk in zip(norms.split(CHUNK), self.chunks(), strict=True):
            part.copy_(chunk.square().sum(dim=1))
        return norms

    def dot(self, vector: Float[Tensor, " k"]) -> Float[Tensor, " m"]:
        """Return the inner product of every vector with ``vector``; an image's part is computed once."""
        of_image, of_text = vector.chunk(2) if self.feature == "concat" else (vector, vector)
        return _dot(self.images, of_image)[self.owner] + _dot(self.texts, of_text)


def _dot(rows: Float[Tensor, "m d"], vector: Float[Tensor, " d"]) -> Float[Tensor, " m"]:
    """Return the float32 inner product of every row with ``vector``.

    Results go to one tensor made before: small ones between large temporaries would fragment the heap.
    """
    products = rows.new_empty(len(rows), dtype=torch.float32)
    for part, chunk in zip(products.split(CHUNK), rows.split(CHUNK), strict=True):
        part.copy_(chunk.float() @ vector)
    return products


def check_budget(warmup: WarmupStatistics, num_pairs: int) -> None:
    """Refuse, by a ``ValueError``, a number of pairs that is below 1 or above that of the real ones."""
    if not 1 <= num_pairs <= len(warmup):
        raise ValueError(f"num_pairs: expected 1 to {len(warmup)}, the number of real pairs, found {num_pairs}.")


def best_index(scores: Float[Tensor, " m"], priority: Int64[Tensor, " m"]) -> int:
    """Return the index of the highest score; of equal ones, that of the lowest priority."""
    tied = (scores == scores.max()).nonzero().squeeze(1)
    return int(tied[priority[tied].argmin()])


def save_warmup(path: Location, warmup: WarmupStatistics) -> None:
    """Write warm-up statistics as one safetensors file, atomically."""
    with atomic_path(path) as temporary:
        tensors = {entry.name: getattr(warmup, entry.name).contiguous() for entry in fields(WarmupStatistics)}
        save_file(tensors, temporary, metadata={"format_version": str(FORMAT_VERSION)})


def load_warmup(path: Location) -> WarmupStatistics:
    """Read warm-up statistics; features are mapped into memory, and read when they are used.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or of another kind.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected warm-up statistics, which the first student of all pairs writes.")
    try:
        with as_file(path) as local:
            with safe_open(local, "pt") as file:
                version = (file.metadata() or {}).get("format_version")
            if version != str(FORMAT_VERSION):
                raise ValueError(f"{path}: expected format_version {FORMAT_VERSION}, but the file has {version!r}.")
            return WarmupStatistics(**load_file(local))
    except (SafetensorError, TypeError) as error:
        raise ValueError(f"{path}: expected warm-up statistics, but {error}.") from error
