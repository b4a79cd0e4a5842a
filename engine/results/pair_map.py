"""Map of real and synthetic pairs: their places in two dimensions of a student's joint space, as a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import MinLen
from jaxtyping import Float
from pydantic import FiniteFloat
from torch import Tensor
from torch.nn.functional import normalize

from engine.data.prepared import PreparedPairs
from engine.evaluation.protocol import prepare_set, real_set
from engine.evaluation.student import TrainingSet
from engine.io.storage import Location
from engine.models.two_tower import TwoTower
from engine.results.kept import read_kept, write_kept
from engine.rng import named_generator
from engine.synthetic.set import SyntheticSet
from engine.tensors import Params

MAP = "pair_map.json"
REAL = 500
"""Real pairs that are drawn at random for a map."""
Place = tuple[FiniteFloat, FiniteFloat]


@dataclass(frozen=True, kw_only=True)
class Side:
    """The places of the image and of the text of some pairs, and the mean cosine of an image and its text."""

    pairs: Annotated[Sequence[tuple[Place, Place]], MinLen(1)]
    cosine: FiniteFloat


@dataclass(frozen=True, kw_only=True)
class PairMap:
    """Places of real and of synthetic pairs in the space of ``student`` (in words).

    ``variance`` is the percent of the real pairs' variance along each axis.
    """

    student: str
    variance: Place
    real: Side
    synthetic: Side


@torch.no_grad()
def pair_map(model: TwoTower, params: Params, real: PreparedPairs, synthetic: SyntheticSet, *, student: str) -> PairMap:
    """Return the places of at most ``REAL`` real pairs and of all synthetic ones, by the model with ``params``.

    The axes are the first two principal components of the real images and texts together, each embedding of length 1.
    """
    device, order = next(iter(params.values())).device, named_generator(0, "pair map")
    chosen = torch.randperm(len(real), generator=order)[:REAL]
    sets = real_set(model, real, chosen, device), prepare_set(model, synthetic, device)
    ours, theirs = (_embedded(model, params, one) for one in sets)
    both = torch.cat(ours)
    centre = both.mean(dim=0)
    values, axes = torch.linalg.eigh((both - centre).T @ (both - centre))  # ascending
    values, axes = values.clamp(min=0).flip(0), axes[:, -2:].flip(1)
    axes = axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()  # else the library's choice
    first, second = (100 * values[:2] / values.sum().clamp(min=1e-12)).tolist()
    sides = [
        Side(
            pairs=list(zip(*(_places((side - centre) @ axes) for side in one), strict=True)),
            cosine=float((one[0] * one[1]).sum(dim=1).mean()),
        )
        for one in (ours, theirs)
    ]
    return PairMap(student=student, variance=(first, second), real=sides[0], synthetic=sides[1])


def _embedded(model: TwoTower, params: Params, pairs: TrainingSet) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Return the embeddings of images (of mosaics the mean of their tiles') and of texts, of length 1, in float64."""
    whole = pairs.images if pairs.tiles == 1 else pairs.images.flatten(0, 1)
    images, texts = (
        normalize(torch.cat([tower.apply(params, part) for part in inputs.split(128)]).double().cpu(), dim=-1)
        for tower, inputs in ((model.image, whole), (model.text, pairs.texts))
    )
    return images if pairs.tiles == 1 else normalize(images.unflatten(0, (-1, pairs.tiles**2)).mean(1), dim=-1), texts


def _places(places: Float[Tensor, "n 2"]) -> list[Place]:
    return [(round(x, 4), round(y, 4)) for x, y in places.tolist()]


def write_map(folder: Location, found: PairMap) -> None:
    """Write a map as JSON into the folder of its study."""
    write_kept(folder / MAP, found)


def read_map(folder: Location) -> PairMap | None:
    """Read what ``write_map`` wrote; None where it wrote nothing.

    Raises:
        ValueError: the file is damaged, or of another format version.
    """
    return read_kept(folder / MAP, PairMap, called="a map of pairs")
