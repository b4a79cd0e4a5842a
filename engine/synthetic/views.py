"""A synthetic set as other libraries take it: a torch data set, and a polars frame."""

import polars
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from engine.synthetic.folder import as_png, eight_bits
from engine.synthetic.set import SyntheticSet


class PairsDataset(Dataset[dict[str, Tensor | str | int]]):
    """A torch data set of a synthetic set's pairs.

    Item i has ``index``, ``image`` [3, h, w] in [0, 1], ``text_embedding`` [d], and ``caption`` where the set holds
    captions. ``similarity`` [n, n] is the target of image i and text j, the identity where none was learned.
    """

    def __init__(self, synthetic: SyntheticSet) -> None:
        self.images = synthetic.images.detach().cpu().clamp(0, 1)
        self.texts, self.captions = synthetic.texts.detach().cpu(), synthetic.captions
        learned = synthetic.similarity()
        self.similarity: Float[Tensor, "n n"] = torch.eye(len(synthetic)) if learned is None else learned.detach().cpu()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor | str | int]:
        item: dict[str, Tensor | str | int] = {"index": index, "image": self.images[index]}
        item["text_embedding"] = self.texts[index]
        return item if self.captions is None else item | {"caption": self.captions[index]}


def frame(synthetic: SyntheticSet) -> polars.DataFrame:
    """Return a frame with a row a pair: ``pair``, ``caption`` (null without), ``image`` as PNG, ``text_embedding``.

    Embeddings of several tokens are one list after the other, without their mask.
    """
    texts = synthetic.texts.detach().cpu()
    return polars.DataFrame(
        {
            "pair": range(1, len(synthetic) + 1),
            "caption": list(synthetic.captions or [None] * len(synthetic)),
            "image": [as_png(image) for image in eight_bits(synthetic.images)],
            "text_embedding": (texts if texts.ndim == 2 else texts[..., :-1].flatten(1)).numpy(),
        },
        schema_overrides={"caption": polars.String},
    )
