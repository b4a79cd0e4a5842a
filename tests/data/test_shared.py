"""What the splits of a data set share: the same photos, the same captions, and photos that look alike."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.data import shared as shared_module
from engine.data.pairs import PairDataset
from engine.data.shared import ALIKE, Shared, closest, perceptual_hashes, shared


def blocks(seed: int, px: int = 64) -> np.ndarray:
    """Return a smooth picture, another for every seed."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((px, px), Image.Resampling.BICUBIC)).transpose(2, 0, 1)


def pairs(images: list[np.ndarray], captions: list[str]) -> PairDataset:
    return PairDataset(np.stack(images), tuple(map(str, range(len(images)))), tuple(captions), np.arange(len(images)))


def test_same_photos_and_same_captions_are_counted_once_each(tmp_path: Path) -> None:
    data = {
        "train": pairs([blocks(0), blocks(1), blocks(2), blocks(1)], ["a", "b", "c", "b"]),
        "val": pairs([blocks(3), blocks(5)], ["a", "d"]),
        "test": pairs([blocks(1), blocks(4), blocks(5)], ["e", "a", "d"]),
    }
    assert shared(data, tmp_path) == Shared(photos=2, captions=2, alike=0)


def test_a_similar_photo_is_no_shared_one(tmp_path: Path) -> None:
    darker = (blocks(0) * 0.9).astype(np.uint8)
    data = {"train": pairs([blocks(0)], ["a"]), "val": pairs([blocks(3)], ["b"]), "test": pairs([darker], ["c"])}
    found = shared(data, tmp_path)
    assert found == Shared(photos=0, captions=0, alike=1)
    assert found.sentence().startswith("the splits share 0 photos and 0 captions; 1 photos look like one of another")


def test_flat_photos_are_compared_by_their_pixels(tmp_path: Path) -> None:
    flat = {split: np.full((3, 8, 8), value, np.uint8) for split, value in (("train", 0), ("val", 9), ("test", 9))}
    assert shared({split: pairs([image], [split]) for split, image in flat.items()}, tmp_path).photos == 1


def test_hashes_are_made_once_and_those_of_other_photos_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.stack([blocks(seed) for seed in range(30)])
    monkeypatch.setattr(shared_module, "CHUNK", 7)
    first = perceptual_hashes(images, tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    np.testing.assert_array_equal(perceptual_hashes(images, tmp_path), first)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == written
    assert closest(first[:15], first[15:]).bits.min() > ALIKE


def test_other_code_makes_hashes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    perceptual_hashes(np.stack([blocks(0)]), tmp_path)
    monkeypatch.setattr(shared_module, "source_digest", lambda *names: "other")
    perceptual_hashes(np.stack([blocks(0)]), tmp_path)
    assert len(list(tmp_path.rglob("*.npy"))) == 2


def test_the_closest_hash_is_that_of_a_double_loop() -> None:
    one, other = (np.random.default_rng(seed).integers(0, 256, (9, 4), dtype=np.uint8) for seed in (0, 1))
    expected = [min(sum(int(a ^ b).bit_count() for a, b in zip(x, y, strict=True)) for y in other) for x in one]
    assert closest(one, other).bits.tolist() == expected
