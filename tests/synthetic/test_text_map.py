"""Texts of one text encoder in the space of another."""

import numpy as np
import torch
from torch.nn.functional import cosine_similarity

from engine.synthetic.text_map import map_texts


def test_what_is_linear_between_two_encoders_is_found_from_captions_alone_far_from_them_too() -> None:
    random = np.random.default_rng(0)
    source = random.normal(size=(2000, 6)).astype(np.float32)
    between = random.normal(size=(6, 4)).astype(np.float32)
    learned = torch.from_numpy(random.normal(size=(3, 6)).astype(np.float32)) * 10
    found = map_texts(learned, source, source @ between, chunk=64)
    assert cosine_similarity(found, learned @ torch.from_numpy(between)).min() > 0.99
    again = map_texts(learned, source, source @ between, chunk=10_000)
    torch.testing.assert_close(found, again)


def test_directions_that_no_caption_has_are_left_out() -> None:
    random = np.random.default_rng(0)
    source = random.normal(size=(500, 3)).astype(np.float32)
    source[:, 2] = 0
    found = map_texts(torch.tensor([[0.0, 0.0, 5.0]]), source, source[:, :2])
    assert found.abs().max() < 1e-6
