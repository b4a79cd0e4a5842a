"""Inputs of a student's trained parts: outputs of its frozen encoders for a split, computed once and cached on disk."""

import json
from collections.abc import Mapping
from functools import partial
from typing import cast

import numpy as np
import torch

from engine.config.schema import Study, Tower
from engine.data.cache import array_key, cached_array, caption_embeddings, caption_tokens
from engine.data.pairs import PairDataset
from engine.data.prepared import write_features
from engine.determinism import unusual
from engine.io.files import digest
from engine.io.paths import Paths
from engine.models import two_tower
from engine.models.distinct_texts import check_distinct
from engine.models.text import TextEncoder, TrainableTextEncoder
from engine.models.two_tower import TwoTower

SPLITS = ("train", "val", "test")


def text_inputs(
    study: Study, paths: Paths, encoder: TextEncoder, datasets: Mapping[str, PairDataset], device: torch.device
) -> dict[str, np.ndarray]:
    """Return the text tower's inputs of each split: cached embeddings, or token ids if its encoder is trained.

    All splits are as wide as the longest caption.

    Raises:
        ValueError: the encoder does not tell the captions of val or of test apart.
    """
    text = study.student.text
    name = " ".join(str(part) for part in (text.encoder, text.options.get("model")) if part)
    checks = {split: partial(check_distinct, name, split, encoder) for split in SPLITS[1:]}
    captions = {split: datasets[split].captions for split in SPLITS}
    if text.train == "frozen":
        embed = partial(
            caption_embeddings, encoder.to(device), cache=paths.cache, precision=study.precision, device=device
        )
        return {split: embed(captions[split], check=checks.get(split)) for split in SPLITS}
    trainable = cast(TrainableTextEncoder, encoder)
    ids = {s: caption_tokens(trainable, captions[s], paths.cache, check=checks.get(s)) for s in SPLITS}
    longest = max(int((rows >= 0).any(axis=0).sum()) for rows in ids.values())
    return {split: rows[:, :longest] for split, rows in ids.items()}


def image_inputs(
    study: Study, paths: Paths, student: TwoTower, dataset: PairDataset, device: torch.device
) -> np.ndarray:
    """Return the inputs of the image tower's trained part: cached features, or pixels if its encoder is trained."""
    tower = study.student.image
    if tower.train != "frozen":
        return dataset.images
    with torch.no_grad():
        width = student.image.prepare(torch.zeros(1, *dataset.images.shape[1:], device=device)).shape[1]
    return cached_array(
        paths.cache / "features",
        digest("features/1", _encoder_key(tower, student.image), array_key(dataset.images), *unusual(study.precision)),
        shape=(dataset.num_images, width),
        dtype=np.float32,
        fill=partial(write_features, student.image, dataset, device=device),
    )


def _encoder_key(tower: Tower, built: two_tower.Tower) -> str:
    """Return a key of a frozen encoder: a digest of its name, options and weights."""
    state = built.frozen.state_dict()
    return digest(
        tower.encoder, json.dumps(tower.options, sort_keys=True), *(v.cpu().numpy().tobytes() for v in state.values())
    )
