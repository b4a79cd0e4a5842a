"""Real batches: distinct images, each with one of its captions."""

import time

import numpy as np
import pytest
import torch

from engine.data.sampling import caption_index, draw_pairs
from engine.rng import named_generator

OWNERS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), [1, 2, 3, 4, 5] * 2))


@pytest.mark.parametrize("count", [1, 7, 10])
def test_no_image_comes_twice(count: int) -> None:
    captions, generator = caption_index(OWNERS), named_generator(0, "pairs")
    for _ in range(100):
        images = OWNERS[draw_pairs(captions, count, generator).numpy()]
        assert len(images) == count == len(set(images))


def test_where_there_are_fewer_images_all_of_them_come() -> None:
    images = OWNERS[draw_pairs(caption_index(OWNERS), 99, named_generator(0, "pairs")).numpy()]
    assert sorted(images) == list(range(10))


def test_every_image_and_each_of_its_captions_comes_equally_often() -> None:
    captions, generator = caption_index(OWNERS), named_generator(0, "pairs")
    counts = torch.bincount(torch.cat([draw_pairs(captions, 5, generator) for _ in range(2000)]), minlength=30)
    for image in range(10):
        own = counts[torch.from_numpy(image == OWNERS)].double()
        assert own.sum().item() == pytest.approx(1000, abs=110)  # standard deviation 22
        assert ((own - own.mean()).abs() < 5 * own.mean().sqrt() + 1).all()


def test_a_batch_of_coco_does_not_read_all_pairs() -> None:
    captions = caption_index(np.repeat(np.arange(113_287), 5)[:566_747].copy())
    generator, seconds = named_generator(0, "pairs"), []
    for _ in range(20):
        started = time.perf_counter()
        draw_pairs(captions, 512, generator)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.05  # 2 ms on an idle machine
