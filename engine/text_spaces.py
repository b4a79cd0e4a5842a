"""Texts of a synthetic set for the text encoders of its further students."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from engine.prepare import Setup
from engine.synthetic.nearest import nearest_captions


def texts_of_students(texts: Tensor, own: Setup, further: Sequence[Setup]) -> tuple[list[int], list[Tensor]]:
    """Return the number of the texts that each further student reads, and the texts for other text encoders.

    Number 0 are ``texts`` [n, ...] themselves. Texts for another encoder are what it makes of the real captions nearest
    to them, which are those of the pairs that a set starts from; students with one text encoder share them.
    """
    known, text_of, spaces = [_space(own)], list[int](), list[Tensor]()
    for setup in further:
        if _space(setup) not in known:
            known.append(_space(setup))
            nearest = nearest_captions(texts, own.pairs["train"].texts, prepare=own.prepared_texts)
            rows = torch.from_numpy(np.array(setup.pairs["train"].texts[nearest.numpy()]))
            spaces.append(setup.prepared_texts(rows))
        text_of.append(known.index(_space(setup)))
    return text_of, spaces


def _space(setup: Setup) -> tuple[object, ...]:
    return setup.text_encoder, setup.text_shape()
