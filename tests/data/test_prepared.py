"""Real pairs as the trained parts take them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.data.prepared import PreparedPairs, as_inputs, features
from engine.io.paths import Paths
from tests.toys import PIXELS, tiny_student

CPU = torch.device("cpu")


def random_pixels(count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, PIXELS, PIXELS), dtype=np.uint8)


def prepared(images: np.ndarray) -> PreparedPairs:
    texts = np.arange(14, dtype=np.float32).reshape(7, 2)
    return PreparedPairs(images, texts, np.array([0, 0, 1, 4, 2, 3, 4]))


def test_rows_belong_together() -> None:
    images = random_pixels()
    pairs = prepared(images)
    chosen = torch.tensor([6, 1, 1])
    assert len(pairs) == 7
    assert pairs.images_of(chosen).tolist() == [4, 0, 0]
    assert pairs.text_rows(chosen, CPU).tolist() == [[12, 13], [2, 3], [2, 3]]
    assert torch.equal(pairs.image_rows(torch.tensor([4, 0]), CPU), torch.from_numpy(images[[4, 0]]).float() / 255)


def test_pixels_span_zero_to_one_and_features_stay() -> None:
    ends = np.array([0, 51, 255], dtype=np.uint8).reshape(1, 3, 1, 1)
    assert as_inputs(ends, CPU).flatten().tolist() == pytest.approx([0.0, 0.2, 1.0], rel=1e-7)
    assert as_inputs(np.array([[300.5]], dtype=np.float32), CPU).tolist() == [[300.5]]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_rows_are_copies_even_of_a_read_only_memory_map(tmp_path: Path, dtype: type) -> None:
    images = random_pixels().astype(dtype)
    images.tofile(tmp_path / "images")
    mapped = np.memmap(tmp_path / "images", dtype=dtype, mode="r", shape=images.shape)
    pairs = prepared(mapped)
    pairs.texts.setflags(write=False)
    before = pairs.texts.copy()
    pairs.image_rows(torch.tensor([0, 1]), CPU).zero_()
    pairs.text_rows(torch.tensor([0, 1]), CPU).zero_()
    pairs.images_of(torch.tensor([3, 4])).zero_()
    as_inputs(mapped[:2], CPU).zero_()
    assert np.array_equal(mapped, images)
    assert np.array_equal(pairs.texts, before)
    assert pairs.caption_image.tolist() == [0, 0, 1, 4, 2, 3, 4]


@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
def test_features_are_those_of_every_image_whatever_the_chunk(paths: Paths, chunk: int) -> None:
    student, images = tiny_student(paths, train="frozen"), random_pixels()
    out = features(student.image, images, device=CPU, chunk=chunk)
    expected = student.image.prepare(torch.from_numpy(images).float() / 255)
    torch.testing.assert_close(torch.from_numpy(out), expected, rtol=1e-5, atol=1e-6)
