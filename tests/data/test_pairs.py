import numpy as np
import pytest
import torch

from engine.data.pairs import PairDataset

IMAGES = np.zeros((2, 3, 4, 4), np.uint8)
FIELDS = {
    "images": IMAGES,
    "image_names": ("a", "b"),
    "captions": ("one", "two", "three"),
    "caption_image": np.array([0, 1, 1]),
}


def test_length_counts_pairs() -> None:
    dataset = PairDataset(**FIELDS)
    assert (len(dataset), dataset.num_images) == (3, 2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_names": ("a",)}, "1 names for 2 images"),
        ({"caption_image": np.array([0, 1])}, r"expected int64 \[3\]"),
        ({"caption_image": np.array([0, 1, 2])}, "indices of 2 images"),
        ({"caption_image": np.array([0, 1, -1])}, "indices of 2 images"),
        ({"caption_image": np.array([1, 1, 1])}, "image 'a' has no caption"),
    ],
)
def test_fields_that_disagree_are_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PairDataset(**{**FIELDS, **changed})


def test_stored_bytes_count_each_image_once_and_details_cost_more() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    dataset = PairDataset(**{**FIELDS, "images": np.stack([np.zeros_like(noise), noise])})
    flat, detailed = dataset.stored_bytes(torch.tensor([0])), dataset.stored_bytes(torch.tensor([1]))
    assert 100 < flat < detailed < noise.size + 1000
    assert dataset.stored_bytes(torch.tensor([1, 2])) == detailed + len("three")
