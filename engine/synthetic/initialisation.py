"""Initialisation of a synthetic set: real pairs, the nearest pairs to joint cluster centres, or noise."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from engine.data.pairs import PairDataset, one_an_image
from engine.data.prepared import PreparedPairs
from engine.determinism import one_thread
from engine.experts.trajectory import ExpertSource
from engine.models.two_tower import TwoTower
from engine.rng import draw_seed
from engine.synthetic.tiles import mosaics

Start = Literal["real", "kmeans", "noise"]
Rows = Float[Tensor, "m f"] | Iterable[Float[Tensor, "b f"]]
"""Rows of features as one tensor, or in chunks one after the other."""
MAX_DIMS, MAX_NUMBERS = 256, 2**27
"""Features of more than ``MAX_NUMBERS`` numbers (512 MiB in float32) are projected to ``MAX_DIMS`` dimensions."""


@dataclass(frozen=True, kw_only=True)
class Init:
    """The origin of the images and of the texts of a synthetic set; equal words give the same pairs."""

    image: Start = "real"
    text: Start = "real"


@dataclass(frozen=True)
class SeedPairs:
    """The real training pairs that a synthetic set can start from.

    ``joint_features`` returns one row of features per pair (image and text side by side); only ``kmeans`` calls it.
    ``prepare`` turns rows of ``texts`` into synthetic texts on the CPU (None: they are used as they are).
    """

    dataset: PairDataset
    texts: np.ndarray
    joint_features: Callable[[], Rows]
    prepare: Callable[[Tensor], Tensor] | None = None


@torch.no_grad()
def joint_features(
    student: TwoTower, pairs: PreparedPairs, experts: ExpertSource, *, epoch: int, chunk: int = 8192
) -> Iterator[Float[Tensor, "b f"]]:
    """Yield both embeddings of every training pair side by side, by the first expert's snapshot of ``epoch``.

    Captions of one image in one chunk share its embedding.
    """
    device = student.device
    snapshot = experts.load(min(experts.index()), epoch)
    params = {name: value.to(device) for name, value in snapshot.items()}
    for rows in torch.arange(len(pairs)).split(chunk):
        images, owners = pairs.images_of(rows).unique(return_inverse=True)
        seen = [student.image.apply(params, pairs.image_rows(part, device)) for part in images.split(256)]
        texts = student.text.apply(params, student.text.prepare(pairs.text_rows(rows, device)))
        yield torch.cat([normalize(torch.cat(seen), dim=-1)[owners], normalize(texts, dim=-1)], dim=1).cpu()


def random_pairs(dataset: PairDataset, num_pairs: int, generator: torch.Generator) -> Int64[Tensor, " n"]:
    """Draw pairs of distinct images, one caption of each; images repeat only where there are fewer than pairs."""
    order = torch.randperm(len(dataset), generator=generator)
    distinct = one_an_image(dataset.caption_image, order)
    rest = order[~torch.isin(order, distinct)]
    return torch.cat([distinct, rest])[:num_pairs]


def central_pairs(
    features: Rows, caption_image: Int64[np.ndarray, " m"], num_pairs: int, generator: torch.Generator, *, each: int = 1
) -> Int64[Tensor, " n"]:
    """Return the ``each`` pairs nearest to each of ``num_pairs`` k-means centres, as ``nearest_pairs`` does.

    Features of more than 512 MiB and 256 dimensions (COCO's) are projected to 256 by a Gaussian matrix, which keeps
    distances up to about 10 %: memory is then bounded by 1 KiB per pair.

    References:
        The initialisation of MDM (arXiv 2605.23482) and AMD: k-means on joint features, nearest real pair.
    """
    from sklearn.cluster import MiniBatchKMeans

    values = _projected(features, len(caption_image), generator)
    kmeans = MiniBatchKMeans(
        num_pairs, n_init=1, batch_size=4096, random_state=draw_seed(generator), compute_labels=False
    )
    with one_thread():
        centres = torch.from_numpy(kmeans.fit(values.numpy()).cluster_centers_).float()
    return nearest_pairs(centres, values, caption_image, each=each)


def nearest_pairs(
    centres: Float[Tensor, "n f"],
    values: Float[Tensor, "m f"],
    caption_image: Int64[np.ndarray, " m"],
    *,
    each: int = 1,
) -> Int64[Tensor, " p"]:
    """Return the pair nearest to each centre among those of images not yet taken, then a second for each, and so on.

    Images repeat only where there are fewer of them than pairs.
    """
    images, taken = torch.from_numpy(caption_image), torch.zeros(len(values), dtype=torch.bool)
    chosen: list[int] = []
    for distances in (row for part in centres.repeat(each, 1).split(16) for row in torch.cdist(part, values)):
        excluded = taken
        if taken.all():  # every image has been taken once
            excluded = torch.zeros_like(taken)
            excluded[chosen] = True
        chosen.append(int(distances.masked_fill(excluded, torch.inf).argmin()))
        taken |= images == images[chosen[-1]]
    return torch.tensor(chosen)


def _projected(features: Rows, length: int, generator: torch.Generator) -> Float[Tensor, "m k"]:
    """Return features as one float32 tensor, projected where they are large; such a tensor is returned as it is."""
    if isinstance(features, Tensor) and features.dtype == torch.float32 and not _is_large(length, features.shape[1]):
        return features
    values, directions, end = torch.empty(0), torch.empty(0), 0
    for rows in features.split(8192) if isinstance(features, Tensor) else features:
        if end == 0 and _is_large(length, rows.shape[1]):
            directions = torch.randn(rows.shape[1], MAX_DIMS, generator=generator) / MAX_DIMS**0.5
        rows = rows.float() @ directions if len(directions) else rows.float()
        if end == 0:
            values = torch.empty(length, rows.shape[1])
        values[end : end + len(rows)] = rows
        end += len(rows)
    assert end == length, f"features of {end} pairs instead of {length}"
    return values


def _is_large(length: int, dims: int) -> bool:
    return dims > MAX_DIMS and length * dims > MAX_NUMBERS


def initial_tensors(
    init: Init, seeds: SeedPairs, num_pairs: int, generator: torch.Generator, *, tiles: int = 1
) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n *d"]]:
    """Draw the initial images in [0, 1] and the initial prepared texts of a synthetic set of ``num_pairs``.

    With ``tiles`` above 1 an image is a mosaic of as many photos as it has tiles: of ``kmeans`` those nearest to its
    centre, of ``real`` its own and those whose pairs are nearest to its pair.

    Raises:
        ValueError: the data has fewer pairs, or fewer photos than the mosaics need.
    """
    owners, each = seeds.dataset.caption_image, 1 if init.image == "noise" else tiles**2
    if num_pairs > len(owners):
        raise ValueError(f"method.num_pairs: {num_pairs} pairs were asked for, but the data has {len(owners)}.")
    if each > 1 and num_pairs * each > (photos := len(np.unique(owners))):
        raise ValueError(
            f"method.tiles is {tiles}: {num_pairs} mosaics need {num_pairs * each} photos, but the data has {photos}."
        )
    values, pairs = torch.empty(0), {"real": random_pairs(seeds.dataset, num_pairs, generator)}
    if "kmeans" in (init.image, init.text) or each > 1:
        values = _projected(seeds.joint_features(), len(owners), generator)
    if "kmeans" in (init.image, init.text):
        times = each if init.image == "kmeans" else 1
        pairs["kmeans"] = central_pairs(values, owners, num_pairs, generator, each=times)
    if each > 1 and init.image == "real":
        pairs["real"] = nearest_pairs(values[pairs["real"]], values, owners, each=each)
    images = _noise_images(seeds, num_pairs, generator) if init.image == "noise" else _images(seeds, pairs[init.image])
    if each > 1:  # the first pair of each, then the second
        images = mosaics(images.unflatten(0, (each, num_pairs)).transpose(0, 1), tiles)
    texts = _noise_texts(seeds, num_pairs, generator) if init.text == "noise" else _texts(seeds, pairs[init.text])
    return images, texts[:num_pairs]


def _images(seeds: SeedPairs, pairs: Int64[Tensor, " n"]) -> Float[Tensor, "n 3 h w"]:
    rows = seeds.dataset.caption_image[pairs.numpy()]
    return torch.from_numpy(np.array(seeds.dataset.images[rows])).float() / 255


def _texts(seeds: SeedPairs, pairs: Int64[Tensor, " n"]) -> Float[Tensor, "n *d"]:
    rows = torch.from_numpy(np.array(seeds.texts[pairs.numpy()]))
    return rows if seeds.prepare is None else seeds.prepare(rows)


def _noise_images(seeds: SeedPairs, num_pairs: int, generator: torch.Generator) -> Float[Tensor, "n 3 h w"]:
    """Draw Gaussian pixels with the mean and standard deviation of each channel of 256 training images."""
    real = _images(seeds, random_pairs(seeds.dataset, 256, generator))
    std, mean = torch.std_mean(real, dim=(0, 2, 3), keepdim=True)
    return mean + std * torch.randn((num_pairs, *real.shape[1:]), generator=generator)


def _noise_texts(seeds: SeedPairs, num_pairs: int, generator: torch.Generator) -> Float[Tensor, "n *d"]:
    """Draw Gaussian embeddings with the overall mean and standard deviation of 1,024 captions' embeddings.

    Token embeddings are drawn behind the masks of these captions, in turn, and with the statistics of their tokens.
    """
    real = _texts(seeds, random_pairs(seeds.dataset, 1024, generator))
    if real.ndim == 2:
        std, mean = torch.std_mean(real)
        return mean + std * torch.randn((num_pairs, real.shape[1]), generator=generator)
    masks = real[torch.arange(num_pairs) % len(real), :, -1:]
    std, mean = torch.std_mean(real[..., :-1][real[..., -1] > 0.5])
    drawn = mean + std * torch.randn((num_pairs, real.shape[1], real.shape[2] - 1), generator=generator)
    return torch.cat([drawn * masks, masks], dim=-1)
