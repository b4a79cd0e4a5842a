"""The setup of a study: data, student, and what its frozen encoders make of the data, which is cached on disk."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from engine.config.schema import Study
from engine.config.student import Tower
from engine.data.cache import ShardedArray, array_key
from engine.data.images import decode_all
from engine.data.listed import Listed
from engine.data.pairs import PairDataset
from engine.data.prepared import PairsOnDemand, features
from engine.data.records import SPLITS
from engine.determinism import encoding
from engine.io.files import digest
from engine.io.storage import Location
from engine.models.distinct_texts import check_distinct
from engine.models.text import TextEncoder, TrainableTextEncoder
from engine.models.two_tower import TwoTower
from engine.provenance import source_digest, versions
from engine.recipes import Precision
from engine.synthetic.nearest import words_of

CPU = "cpu"
MAKERS = ("data/prepared.py", "determinism.py", "models", "prepare.py")
"""Files and folders of the engine that make features of photos and embeddings of captions; a part of their keys."""
LIBRARIES = ("torch", "timm", "transformers", "open_clip_torch", "scikit-learn")
"""Libraries that take part in that; their versions are parts of the keys."""


@dataclass(frozen=True)
class Place:
    """Where inputs are kept: the cache of this machine, and the folder of finished shards, which all nodes see.

    ``made_on`` is the kind of device that makes what networks make: ``cpu``, or the kind of the cluster's GPUs. It is a
    part of keys, because other devices round otherwise. ``list_key`` names the list of photos and captions beside the
    shards, which is read in place of the data set; None: there is none yet.
    """

    cache: Path
    shards: Location | None = None
    made_on: str = CPU
    list_key: str | None = None

    def words(self, precision: Precision) -> list[str]:
        """Return the device and the precision as parts of a key: none for float32 on a CPU."""
        return [word for word, usual in ((self.made_on, CPU), (precision, "fp32")) if word != usual]


@dataclass(frozen=True)
class Setup:
    """The data and the student of a study, which its experts, trials and evaluations share."""

    datasets: Mapping[str, PairDataset]
    pairs: PairsOnDemand
    student: TwoTower
    device: torch.device
    text_encoder: str
    """What identifies the text encoder: its name, options and weights."""
    text_row: np.ndarray
    """Numbers of the shape [1, ...] of a row of ``PreparedPairs.texts``."""
    outputs: Mapping[str, ShardedArray] = field(default_factory=dict)
    """What frozen networks make of the data, by name."""
    listed: Mapping[str, Listed] = field(default_factory=dict)
    """The photos and captions of each split, by which other processes open them; empty without ``pixels``."""

    @cached_property
    def pixels(self) -> list[ShardedArray]:
        """The decoded photos of each split, as far as they are made once."""
        return [data.images for data in self.datasets.values() if isinstance(data.images, ShardedArray)]

    @cached_property
    def arrays(self) -> dict[str, ShardedArray]:
        """Decoded photos and outputs of frozen networks, by name; ``pairs`` opens these arrays, or makes them."""
        return {array.label: array for array in self.pixels} | {**self.outputs}

    @cached_property
    def weights(self) -> dict[str, str]:
        """Digests of the encoders' weights by modality, without an image encoder that starts from scratch."""
        image, digests = self.student.image, {"text": digest(self.text_encoder)}
        if not image.scratch:
            modules = (image.frozen, image.trained.encoder)
            parts = (v.cpu().numpy().tobytes() for module in modules for v in module.state_dict().values())
            digests["image"] = digest(*parts)
        return digests

    @cached_property
    def inputs(self) -> dict[str, str]:
        """Digests of what the study reads beside its configuration: photos in files, captions, encoders' weights."""
        photos = {"photos": digest(*(self.listed[split].content for split in SPLITS))} if self.listed else {}
        captions = (part for split in SPLITS for part in _captions(self.datasets[split]))
        encoders = {f"{modality} encoder": one for modality, one in self.weights.items()}
        return {**photos, "captions": digest(*captions), **encoders}

    @torch.no_grad()
    def prepared_texts(self, rows: Tensor) -> Tensor:
        """Convert rows of ``PreparedPairs.texts`` to the form of synthetic texts, on the CPU."""
        return self.student.text.prepare(rows.to(self.device)).cpu()

    def nearest_words(self, texts: Tensor) -> tuple[str, ...]:
        """Return the training caption nearest to each synthetic text."""
        captions, real = self.datasets["train"].captions, self.pairs["train"].texts
        return tuple(words_of(texts, captions, real, prepare=self.prepared_texts))

    def text_shape(self) -> tuple[int, ...]:
        """Return the shape of one synthetic text."""
        return tuple(self.prepared_texts(torch.from_numpy(np.array(self.text_row))).shape[1:])


def _captions(dataset: PairDataset) -> tuple[str | bytes, ...]:
    return *dataset.captions, dataset.caption_image.tobytes()


def open_listed(listed: Mapping[str, Listed], place: Place) -> dict[str, PairDataset]:
    """Return the pairs of each split; few photos are decoded here, many when they are first read.

    Raises:
        UndecodableError: few photos are there, and some are broken.
    """
    pixels = {split: one.images(split, place.cache, place.shards) for split, one in listed.items()}
    if all(array.few for array in pixels.values()):
        decode_all(list(pixels.values()))
    return {split: one.dataset(pixels[split]) for split, one in listed.items()}


def makers() -> str:
    """Return a digest of the code and the versions of the libraries that make features and embeddings."""
    return digest(source_digest(*MAKERS), *(f"{name} {versions()[name]}" for name in LIBRARIES))


def is_network(encoder: TextEncoder) -> bool:
    """Return whether an encoder holds a network of torch, which a GPU runs faster."""
    return any(isinstance(value, nn.Module) for value in vars(encoder).values())


def text_arrays(
    study: Study,
    place: Place,
    encoder: TextEncoder,
    datasets: Mapping[str, PairDataset],
    device: torch.device,
    again: Callable[[], TextEncoder] | None = None,
) -> dict[str, ShardedArray]:
    """Return the arrays of each split's caption embeddings, or of its token ids if the encoder is trained.

    ``again`` returns the encoder when an array is made, so that the arrays need not hold it. Those of val and test are
    checked when they are made, which raises a ValueError if the encoder does not tell their captions apart.
    """
    text, built = study.student.text, again or cache(lambda: encoder.to(device))
    key = encoder.key
    precision: Precision = study.precision if is_network(encoder) else "fp32"
    kind, dtype, width = "caption_embeddings/2", "float32", encoder.dim
    if text.train != "frozen":
        kind, dtype, width = "caption_tokens/2", "int32", cast(TrainableTextEncoder, encoder).max_length

    def make(split: str, first: int, last: int) -> np.ndarray:
        captions = datasets[split].captions[first:last]
        if text.train != "frozen":
            return cast(TrainableTextEncoder, built()).tokens(captions)
        with encoding(precision, device):
            return built().embed(captions).numpy()

    def check(split: str, rows: np.ndarray) -> None:
        check_distinct(full_name(text), split, built(), datasets[split].captions, rows)

    words = place.words(precision) if text.train == "frozen" and is_network(encoder) else []
    return {
        split: ShardedArray(
            folder=place.cache / "captions",
            key=digest(kind, makers(), key, *datasets[split].captions, *words),
            shape=(len(datasets[split]), width),
            dtype=dtype,
            label=f"captions of {split}",
            make=partial(make, split),
            check=None if split == "train" else partial(check, split),
            shards=place.shards,
        )
        for split in SPLITS
    }


def full_name(text: Tower) -> str:
    """Return the name of an encoder with that of its model."""
    return " ".join(str(part) for part in (text.encoder, text.options.get("model")) if part)


def text_inputs(arrays: Mapping[str, ShardedArray]) -> dict[str, np.ndarray]:
    """Open the inputs of the text tower; token ids of all splits are as wide as the longest caption.

    Raises:
        ValueError: the encoder does not tell the captions of val or of test apart.
    """
    rows = {split: array.open() for split, array in arrays.items()}
    if any(array.dtype.kind == "f" for array in rows.values()):
        return rows
    longest = max(int((ids >= 0).any(axis=0).sum()) for ids in rows.values())
    return {split: ids[:, :longest] for split, ids in rows.items()}


def image_arrays(
    study: Study, place: Place, student: TwoTower, datasets: Mapping[str, PairDataset], device: torch.device
) -> dict[str, ShardedArray]:
    """Return the arrays of each split's image features; none if the image encoder is trained and sees pixels."""
    tower = study.student.image
    if tower.train != "frozen":
        return {}
    blank = torch.zeros(1, *datasets["train"].images.shape[1:], device=device)
    with torch.no_grad():
        width = student.image.prepare(blank).shape[1]
    frozen = student.image.frozen
    state = {**dict(frozen.named_buffers()), **frozen.state_dict()}  # mean and std of the pixels are not in the latter
    weights = (value.cpu().numpy().tobytes() for value in state.values())
    encoder = digest(makers(), tower.encoder, json.dumps(tower.options, sort_keys=True), *weights)

    def make(images: np.ndarray | ShardedArray, first: int, last: int) -> np.ndarray:
        return features(student.image, images[first:last], device=device)

    def array(split: str) -> ShardedArray:
        images = datasets[split].images
        return ShardedArray(
            folder=place.cache / "features",
            key=digest("features/2", encoder, array_key(images), *place.words(study.precision)),
            shape=(len(images), width),
            dtype=np.float32,
            label=f"photos of {split}",
            make=partial(make, images),
            shards=place.shards,
        )

    return {split: array(split) for split in SPLITS}
