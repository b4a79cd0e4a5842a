import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.tracking.pictures import bars, before_after, curves

LONG = "A man in a red shirt climbs a very large granite rock face while all his friends watch from the ground below"


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def ink(image: np.ndarray) -> float:
    """Return the part of the picture that is not white."""
    return float((image.min(axis=2) < 200).mean())


@pytest.mark.parametrize(("count", "px"), [(1, 8), (4, 64), (14, 128)])
def test_before_after(tmp_path: Path, count: int, px: int) -> None:
    generator = torch.Generator().manual_seed(0)
    before = torch.rand(count, 3, px, px, generator=generator)
    after = before + 0.7 * torch.randn(before.shape, generator=generator)
    before_after(tmp_path / "a.png", before, after, [LONG] * count, ["two dogs for $5 and $6"] * count)
    image = pixels(tmp_path / "a.png")
    assert ink(image) > 0.3
    assert (image[:8] == 255).all(), "a white margin"
    assert (image[:, :8] == 255).all()
    assert (image[-3:] == 255).all(), "the longest caption ends on the page"


def test_before_after_shows_the_right_pixels_on_the_right_side(tmp_path: Path) -> None:
    red, blue = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    red[:, 0], blue[:, 2], blue[:, 0] = 1.8, 1.0, -3.0
    red[0, 0, 0, 0] = math.nan
    before_after(tmp_path / "a.png", red.requires_grad_(), blue, ["a", "b"], ["c", "d"])
    image = pixels(tmp_path / "a.png")
    middle = image[image.shape[0] // 2]
    runs = [tuple(colour) for colour in middle[np.any(np.diff(middle, axis=0, prepend=-1) != 0, axis=1)]]
    assert [colour for colour in runs if colour in {(255, 0, 0), (0, 0, 255)}] == [(255, 0, 0), (0, 0, 255)] * 2


def test_limit_bounds_the_picture(tmp_path: Path) -> None:
    images = torch.zeros(8, 3, 4, 4)
    before_after(tmp_path / "two.png", images, images, ["a"] * 8, ["b"] * 8, limit=2)
    before_after(tmp_path / "eight.png", images, images, ["a"] * 8, ["b"] * 8)
    assert pixels(tmp_path / "two.png").shape[0] < pixels(tmp_path / "eight.png").shape[0]


def test_curves(tmp_path: Path) -> None:
    series = {f"series {number}": [(step, step * number + 1.0) for step in range(30)] for number in range(10)}
    series["with a $ gap"] = [(0, 1.0), (1, math.nan), (2, math.inf), (3, 2.0)]
    curves(tmp_path / "many.png", series, "val mean recall (%)")
    curves(tmp_path / "one.png", {"point": [(5, 1.0)]}, "loss")
    assert ink(pixels(tmp_path / "many.png")) > 0.03
    assert ink(pixels(tmp_path / "one.png")) > 0.005


def test_bars(tmp_path: Path) -> None:
    bars(tmp_path / "bars.png", {"random": (5.5, 0.3), "all $x$ pairs": (29.4, None)}, "test mean recall (%)")
    image = pixels(tmp_path / "bars.png")
    assert ink(image) > 0.1


def test_a_picture_is_whole_or_absent(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OSError, match=r"a\.png"):
        curves(tmp_path / "a.png", {"a": [(0, 1.0)]}, "loss")
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"], "nothing half-written is left"
