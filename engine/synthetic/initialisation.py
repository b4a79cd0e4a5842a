"""How a synthetic set starts: from real pairs, from joint cluster centres' nearest pairs, or from noise."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from engine.data.pairs import PairDataset, one_an_image
from engine.rng import draw_seed

Start = Literal["real", "kmeans", "noise"]


@dataclass(frozen=True, kw_only=True)
class Init:
    """Where the images and the texts of a synthetic set come from; equal words start from the same pairs."""

    image: Start = "real"
    text: Start = "real"


@dataclass(frozen=True)
class SeedPairs:
    """The real training pairs that a synthetic set can start from.

    ``joint_features`` returns one row of features a pair (image and text side by side); only ``kmeans`` calls it.
    ``prepare`` turns rows of ``texts`` into what a synthetic text is (None: they are that); it returns CPU tensors.
    """

    dataset: PairDataset
    texts: np.ndarray
    joint_features: Callable[[], Float[Tensor, "m f"]]
    prepare: Callable[[Tensor], Tensor] | None = None


def random_pairs(dataset: PairDataset, num_pairs: int, generator: torch.Generator) -> Int64[Tensor, " n"]:
    """Draw pairs of distinct images, one caption of each; images repeat only where there are fewer than pairs."""
    order = torch.randperm(len(dataset), generator=generator)
    distinct = one_an_image(dataset.caption_image, order)
    rest = order[~torch.isin(order, distinct)]
    return torch.cat([distinct, rest])[:num_pairs]


def central_pairs(
    features: Float[Tensor, "m f"], caption_image: Int64[np.ndarray, " m"], num_pairs: int, generator: torch.Generator
) -> Int64[Tensor, " n"]:
    """Return, for each of ``num_pairs`` k-means clusters of ``features``, the nearest pair of an image not yet taken.

    Images repeat only where there are fewer of them than pairs.

    References:
        The initialisation of MDM (arXiv 2605.23482) and AMD: k-means on joint features, nearest real pair.
    """
    from sklearn.cluster import MiniBatchKMeans

    values = features.numpy()
    clusters = MiniBatchKMeans(num_pairs, n_init=1, batch_size=4096, random_state=draw_seed(generator)).fit(values)
    distances = torch.cdist(torch.from_numpy(clusters.cluster_centers_).float(), features)
    images, taken = torch.from_numpy(caption_image), torch.zeros(len(features), dtype=torch.bool)
    chosen: list[int] = []
    for row in distances:
        free = ~taken
        if not free.any():  # every image has been taken once
            free = torch.ones_like(taken)
            free[chosen] = False
        chosen.append(int(row.masked_fill(~free, torch.inf).argmin()))
        taken |= images == images[chosen[-1]]
    return torch.tensor(chosen)


def initial_tensors(
    init: Init, seeds: SeedPairs, num_pairs: int, generator: torch.Generator
) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n *d"]]:
    """Return the images in [0, 1] and the prepared texts that a synthetic set of ``num_pairs`` starts from.

    Raises:
        ValueError: more pairs are asked for than there are.
    """
    if num_pairs > len(seeds.dataset):
        raise ValueError(f"method.num_pairs: {num_pairs} pairs were asked for, but the data has {len(seeds.dataset)}.")
    pairs = {"real": random_pairs(seeds.dataset, num_pairs, generator)}
    if "kmeans" in (init.image, init.text):
        pairs["kmeans"] = central_pairs(seeds.joint_features(), seeds.dataset.caption_image, num_pairs, generator)
    images = _noise_images(seeds, num_pairs, generator) if init.image == "noise" else _images(seeds, pairs[init.image])
    texts = _noise_texts(seeds, num_pairs, generator) if init.text == "noise" else _texts(seeds, pairs[init.text])
    return images, texts


def _images(seeds: SeedPairs, pairs: Int64[Tensor, " n"]) -> Float[Tensor, "n 3 h w"]:
    rows = seeds.dataset.caption_image[pairs.numpy()]
    return torch.from_numpy(np.array(seeds.dataset.images[rows])).float() / 255


def _texts(seeds: SeedPairs, pairs: Int64[Tensor, " n"]) -> Float[Tensor, "n *d"]:
    rows = torch.from_numpy(np.array(seeds.texts[pairs.numpy()]))
    return rows if seeds.prepare is None else seeds.prepare(rows)


def _noise_images(seeds: SeedPairs, num_pairs: int, generator: torch.Generator) -> Float[Tensor, "n 3 h w"]:
    """Draw Gaussian pixels with the mean and standard deviation a channel of 256 training images."""
    real = _images(seeds, random_pairs(seeds.dataset, 256, generator))
    std, mean = torch.std_mean(real, dim=(0, 2, 3), keepdim=True)
    return mean + std * torch.randn((num_pairs, *real.shape[1:]), generator=generator)


def _noise_texts(seeds: SeedPairs, num_pairs: int, generator: torch.Generator) -> Float[Tensor, "n *d"]:
    """Draw Gaussian embeddings with the overall mean and standard deviation of 1,024 captions' embeddings.

    Where texts are token embeddings behind a mask, the lengths are those of the real captions.
    """
    real = _texts(seeds, random_pairs(seeds.dataset, 1024, generator))
    if real.ndim == 3:
        return _noise_tokens(real, num_pairs, generator)
    std, mean = torch.std_mean(real)
    return mean + std * torch.randn((num_pairs, real.shape[1]), generator=generator)


def _noise_tokens(
    real: Float[Tensor, "m tokens channels"], num_pairs: int, generator: torch.Generator
) -> Float[Tensor, "n tokens channels"]:
    """Draw Gaussian token embeddings under the masks of ``real`` texts, which are taken in turn."""
    masks = real[torch.arange(num_pairs) % len(real), :, -1:]
    std, mean = torch.std_mean(real[..., :-1][real[..., -1] > 0.5])
    drawn = mean + std * torch.randn((num_pairs, real.shape[1], real.shape[2] - 1), generator=generator)
    return torch.cat([drawn * masks, masks], dim=-1)
