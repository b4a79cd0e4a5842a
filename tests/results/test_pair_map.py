"""A map keeps what can be kept of a joint space in two dimensions, and a damaged one is named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.data.prepared import PreparedPairs
from engine.io.files import read_json, write_json
from engine.models.two_tower import EncoderWithHead, Tower, TwoTower
from engine.report.pair_map import caption, draw_map
from engine.results.pair_map import MAP, REAL, PairMap, Place, pair_map, read_map, write_map
from engine.rng import named_generator
from engine.synthetic.set import SyntheticSet


class Flat(nn.Module):
    """An encoder whose embeddings are the first ``width`` numbers of what it reads; it has one weight, 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.weight = width, nn.Parameter(torch.ones(()))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.weight * inputs.flatten(1)[:, : self.width]


def flat_model(width: int) -> TwoTower:
    towers = (
        Tower(side, nn.Identity(), EncoderWithHead(Flat(width), nn.Identity()), lambda: Flat(width), nn.Identity, True)
        for side in ("image", "text")
    )
    return TwoTower(*towers, temperature=0.1)


def mapped(width: int, *, real: int = 30) -> tuple[PairMap, Tensor, Tensor]:
    """Return a map, and the unit embeddings [2, n, width] of the real pairs and of the synthetic ones."""
    drawn, model = named_generator(0, "map"), flat_model(width)
    images, texts = torch.randn(4, 3, 2, 2, generator=drawn), torch.randn(4, 12, generator=drawn)
    features, words = (torch.randn(real, 12, generator=drawn).numpy() for _ in range(2))
    pairs = PreparedPairs(features, words, np.arange(real))
    params = {f"{side}.encoder.weight": torch.ones(()) for side in ("image", "text")}
    synthetic = SyntheticSet(images, texts, {"image": 0.1, "text": 0.1})
    embedded = (
        nn.functional.normalize(torch.stack(sides)[..., :width].double(), dim=-1)
        for sides in ((torch.from_numpy(features), torch.from_numpy(words)), (images.flatten(1), texts))
    )
    return pair_map(model, params, pairs, synthetic, student="a student"), *embedded


def places(pairs: list[tuple[Place, Place]]) -> Tensor:
    """Return the places as [2, n, 2]: those of images, and those of texts."""
    return torch.tensor(pairs, dtype=torch.float64).transpose(0, 1)


def test_a_plane_is_mapped_without_a_change_of_distances() -> None:
    found, _, synthetic = mapped(2)
    assert sum(found.variance) == pytest.approx(100)
    there = places(found.synthetic.pairs)
    assert torch.allclose(torch.cdist(*there), torch.cdist(*synthetic), atol=1e-3)
    assert found.synthetic.cosine == pytest.approx((synthetic[0] * synthetic[1]).sum(1).mean().item())


def test_the_axes_are_those_of_the_largest_variance_of_real_pairs() -> None:
    found, real, synthetic = mapped(5)
    both = real.flatten(0, 1)
    _, singular, axes = torch.linalg.svd(both - both.mean(0))
    assert found.variance == pytest.approx((100 * singular**2 / (singular**2).sum())[:2].tolist())
    assert torch.allclose(
        places(found.synthetic.pairs).abs(), ((synthetic - both.mean(0)) @ axes[:2].T).abs(), atol=1e-3
    )
    assert len(found.real.pairs) == 30


def test_only_so_many_real_pairs_are_drawn() -> None:
    assert len(mapped(3, real=REAL + 9)[0].real.pairs) == REAL


def test_the_figure_has_every_place_and_joins_the_synthetic_ones() -> None:
    found = mapped(4)[0]
    axes = draw_map(found).axes[0]
    lines, *dots = axes.collections
    drawn = {one.get_label(): one.get_offsets().data for one in dots}
    assert list(drawn) == ["real images", "real texts", "synthetic images", "synthetic texts"]
    assert np.allclose(drawn["synthetic texts"], [pair[1] for pair in found.synthetic.pairs])
    assert np.allclose(drawn["real images"], [pair[0] for pair in found.real.pairs])
    assert np.allclose(lines.get_segments(), found.synthetic.pairs)
    assert axes.get_xlabel() == f"principal component 1 ({found.variance[0]:.0f} %)"
    assert "30 real pairs of train" in caption(found)
    assert "all 4 synthetic pairs" in caption(found)


def test_a_map_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_map(tmp_path) is None
    found = mapped(3)[0]
    write_map(tmp_path, found)
    assert read_map(tmp_path) == found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format_version": 2}, "got format_version 2, expected 1"),
        ({"real": {"pairs": [], "cosine": 0.1}}, "it is not a map of pairs (real.pairs"),
        ({"variance": ["many", 1]}, "it is not a map of pairs (variance.0"),
        ({"real": {"pairs": [[[0.0, 1.0]]], "cosine": 0.1}}, "it is not a map of pairs (real.pairs.0"),
    ],
)
def test_a_damaged_map_is_one_sentence(change: dict[str, object], told: str, tmp_path: Path) -> None:
    write_map(tmp_path, mapped(3)[0])
    write_json(tmp_path / MAP, read_json(tmp_path / MAP) | change)
    with pytest.raises(ValueError, match=r"pair_map\.json: ") as caught:
        read_map(tmp_path)
    assert told in str(caught.value)
