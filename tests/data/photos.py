"""Small image files for the tests of the data layer."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def save_photo(path: Path, seed: int, *, width: int = 20, height: int = 14) -> Path:
    """Write a PNG of random blocks and return its path."""
    blocks = np.random.default_rng(seed).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST).save(path, format="PNG")
    return path


def save_photos(folder: Path, names: Iterable[str]) -> list[Path]:
    """Write one photo a name, each another."""
    return [save_photo(folder / name, seed) for seed, name in enumerate(names)]


def noise(seed: int, width: int, height: int) -> Image.Image:
    """Return an image of random pixels, drawn large enough that a lossy format keeps their differences."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)
