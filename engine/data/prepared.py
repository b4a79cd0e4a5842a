"""Real pairs as inputs of a student's trained parts: pixels or frozen features, and text embeddings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64, Shaped, UInt8
from torch import Tensor

from engine.io.progress import tell
from engine.models.two_tower import Tower


@dataclass(frozen=True)
class PreparedPairs:
    """Images and texts of a split, arrays with one row per image or caption; usually memory-mapped.

    ``images`` are uint8 pixels [n, 3, h, w] where the image encoder is trained, else its float32 features [n, f].
    ``texts`` are token ids [m, tokens] where the text encoder is trained, else embeddings [m, f]; both are inputs of
    the text tower's frozen part, which is the identity on embeddings.
    """

    images: np.ndarray
    texts: np.ndarray
    caption_image: np.ndarray

    def __len__(self) -> int:
        """Return the number of pairs, which is the number of captions."""
        return len(self.caption_image)

    def image_rows(self, rows: Int64[Tensor, " b"], device: torch.device) -> Tensor:
        """Return a copy of the inputs of the images ``rows``; pixels come as floats in [0, 1]."""
        return as_inputs(self.images[rows.numpy()], device)

    def text_rows(self, rows: Int64[Tensor, " b"], device: torch.device) -> Shaped[Tensor, "b f"]:
        """Return a copy of the embeddings, or of the token ids, of the captions ``rows``; they are not yet prepared."""
        return torch.from_numpy(self.texts[rows.numpy()]).to(device)

    def images_of(self, pairs: Int64[Tensor, " b"]) -> Int64[Tensor, " b"]:
        """Return the image index of each of ``pairs``."""
        return torch.from_numpy(self.caption_image[pairs.numpy()])


def as_inputs(rows: np.ndarray, device: torch.device) -> Tensor:
    """Return array rows as a float tensor of their own; uint8 pixels are scaled to [0, 1]."""
    values = torch.from_numpy(np.array(rows)).to(device)
    return values.float().div_(255) if values.dtype == torch.uint8 else values


@torch.no_grad()
def features(
    tower: Tower, images: UInt8[np.ndarray, "n 3 h w"], *, device: torch.device, chunk: int = 256
) -> Float32[np.ndarray, "n f"]:
    """Return the features of images from the frozen part of ``tower``, which sees ``chunk`` images at a time."""
    parts = []
    for first in range(0, len(images), chunk):
        parts.append(tower.prepare(as_inputs(images[first : first + chunk], device)).cpu().numpy())
        tell(len(parts[-1]))
    return np.concatenate(parts)


class PairsOnDemand(Mapping[Any, Any]):
    """The prepared pairs of each split, which are opened, or made, when they are first read.

    The base names no types: run-time checks of types would read a value.
    """

    def __init__(self, splits: Sequence[str], make: Callable[[str], PreparedPairs]) -> None:
        self._splits, self._make, self._made = splits, make, dict[str, PreparedPairs]()

    def __getitem__(self, split: str) -> PreparedPairs:
        if split not in self._made and split in self._splits:
            self._made[split] = self._make(split)
        return self._made[split]

    def __iter__(self) -> Iterator[str]:
        return iter(self._splits)

    def __len__(self) -> int:
        return len(self._splits)
