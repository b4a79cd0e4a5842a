"""Steps that touch all pairs stay within bounds of time and memory on data of COCO's shape.

Bounds are about ten times what the steps take alone on two cores. Those of memory are below what one float32 array of
all pairs' joint features would need (138 MiB at 32 dimensions) where a step is not to make one.
"""

import math

import pytest

from benchmarks.coco_scale import BATCH, CAPTIONS, IMAGES, Coco
from benchmarks.common import peak
from engine.data.sampling import caption_index, draw_pairs
from engine.rng import named_generator

NARROW, WIDE = Coco(dim=4, chosen=100), Coco(dim=32, chosen=20)
BOUNDS = {  # seconds, MiB
    "open the training split": (NARROW, 20, 400),
    "k-means start": (NARROW, 300, 1000),
    "count forgetting": (WIDE, 200, 100),
    "write and read statistics": (WIDE, 20, 100),
    "draw a caption per image": (NARROW, 20, 200),
    "rank 5,000 x 25,000": (WIDE, 150, 400),
    "coreset random": (WIDE, 5, 50),
    "coreset herding": (WIDE, 200, 100),
    "coreset k_center": (WIDE, 200, 100),
    "coreset forgetting": (WIDE, 20, 100),
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_every_step_has_its_bounds() -> None:
    assert BOUNDS.keys() == NARROW.steps().keys()


@pytest.mark.parametrize("name", BOUNDS)
def test_a_step_stays_within_its_time_and_memory(name: str) -> None:
    coco, seconds, mebibytes = BOUNDS[name]
    step = coco.steps()[name]
    taken, needed, _ = peak(step)
    assert taken.clock < seconds
    assert math.isnan(needed) or needed < mebibytes * 2**20


def test_statistics_hold_a_row_an_image_and_a_row_a_caption() -> None:
    warmup = WIDE.warmup
    assert len(warmup.image_features) == IMAGES
    assert len(warmup.text_features) == len(warmup) == CAPTIONS


def test_a_batch_of_real_pairs_is_drawn_at_once() -> None:
    index = caption_index(NARROW.caption_image)

    def draw() -> None:
        for number in range(20):
            rows = draw_pairs(index, BATCH, named_generator(0, f"batch/{number}"))
            assert len(set(NARROW.caption_image[rows.numpy()].tolist())) == BATCH

    taken, needed, _ = peak(draw)
    assert taken.clock < 20
    assert math.isnan(needed) or needed < 50 * 2**20
