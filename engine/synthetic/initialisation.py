"""How a synthetic set starts: from real pairs, from joint cluster centres' nearest pairs, or from noise."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from engine.data.pairs import PairDataset
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
    """

    dataset: PairDataset
    texts: np.ndarray
    joint_features: Callable[[], Float[Tensor, "m f"]]


def random_pairs(dataset: PairDataset, num_pairs: int, generator: torch.Generator) -> Int64[Tensor, " n"]:
    """Draw pairs of distinct images, one caption of each; images repeat only where there are fewer than pairs."""
    order = torch.randperm(len(dataset), generator=generator).numpy()
    _, first = np.unique(dataset.caption_image[order], return_index=True)
    chosen = np.sort(first)
    rest = np.setdiff1d(np.arange(len(order)), chosen, assume_unique=True)
    return torch.from_numpy(order[np.concatenate([chosen, rest])[:num_pairs]])


def central_pairs(features: Float[Tensor, "m f"], num_pairs: int, generator: torch.Generator) -> Int64[Tensor, " n"]:
    """Return, for each of ``num_pairs`` k-means clusters of ``features``, the nearest pair not yet taken.

    References:
        The initialisation of MDM (arXiv 2605.23482) and AMD: k-means on joint features, nearest real pair.
    """
    from sklearn.cluster import MiniBatchKMeans

    values = features.numpy()
    clusters = MiniBatchKMeans(num_pairs, n_init=1, batch_size=4096, random_state=draw_seed(generator)).fit(values)
    distances = torch.cdist(torch.from_numpy(clusters.cluster_centers_).float(), features)
    chosen: list[int] = []
    for row in distances:
        row[chosen] = torch.inf
        chosen.append(int(row.argmin()))
    return torch.tensor(chosen)


def initial_tensors(
    init: Init, seeds: SeedPairs, num_pairs: int, generator: torch.Generator
) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n d"]]:
    """Return the images in [0, 1] and the text embeddings that a synthetic set of ``num_pairs`` starts from.

    Raises:
        ValueError: more pairs are asked for than there are.
    """
    if num_pairs > len(seeds.dataset):
        raise ValueError(f"method.num_pairs: {num_pairs} pairs were asked for, but the data has {len(seeds.dataset)}.")
    pairs = {"real": random_pairs(seeds.dataset, num_pairs, generator)}
    if "kmeans" in (init.image, init.text):
        pairs["kmeans"] = central_pairs(seeds.joint_features(), num_pairs, generator)
    images = _noise_images(seeds, num_pairs, generator) if init.image == "noise" else _images(seeds, pairs[init.image])
    texts = _noise_texts(seeds, num_pairs, generator) if init.text == "noise" else _texts(seeds, pairs[init.text])
    return images, texts


def _images(seeds: SeedPairs, pairs: Int64[Tensor, " n"]) -> Float[Tensor, "n 3 h w"]:
    rows = seeds.dataset.caption_image[pairs.numpy()]
    return torch.from_numpy(np.array(seeds.dataset.images[rows])).float() / 255


def _texts(seeds: SeedPairs, pairs: Int64[Tensor, " n"]) -> Float[Tensor, "n d"]:
    return torch.from_numpy(np.array(seeds.texts[pairs.numpy()]))


def _noise_images(seeds: SeedPairs, num_pairs: int, generator: torch.Generator) -> Float[Tensor, "n 3 h w"]:
    """Draw Gaussian pixels with the mean and standard deviation a channel of 256 training images."""
    real = _images(seeds, random_pairs(seeds.dataset, 256, generator))
    std, mean = torch.std_mean(real, dim=(0, 2, 3), keepdim=True)
    return mean + std * torch.randn((num_pairs, *real.shape[1:]), generator=generator)


def _noise_texts(seeds: SeedPairs, num_pairs: int, generator: torch.Generator) -> Float[Tensor, "n d"]:
    """Draw Gaussian embeddings with the overall mean and standard deviation of 1,024 captions' embeddings."""
    real = _texts(seeds, random_pairs(seeds.dataset, 1024, generator))
    std, mean = torch.std_mean(real)
    return mean + std * torch.randn((num_pairs, real.shape[1]), generator=generator)
