"""Random data of a study's shapes, on which its own code can be timed and measured before any work."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch.nn.functional import normalize

from engine import build
from engine.build import Setup
from engine.config.schema import Resolved
from engine.data.pairs import PairDataset
from engine.data.prepared import PairsOnDemand, PreparedPairs
from engine.data.records import SPLITS
from engine.determinism import set_policy
from engine.distill import Distillation
from engine.experts.trajectory import ExpertId
from engine.io.paths import Paths
from engine.models.text import TextEncoder, TrainableTextEncoder
from engine.rng import named_generator
from engine.studies.preflight.requirements import BATCH_SIZES, largest
from engine.tensors import Params

PAIRS = 1024
"""Random pairs in each split; more where a synthetic set or a batch of the method has more."""

WORDS = ("small", "brown", "dog", "runs", "over", "green", "grass", "towards", "two", "children", "red", "river")


@dataclass(frozen=True, eq=False)
class MovingExpert:
    """An expert whose parameters grow by a thousandth in each epoch; hashable by identity."""

    start: Params
    epochs: tuple[int, ...]

    def index(self) -> dict[ExpertId, tuple[int, ...]]:
        """Return the epochs of the only expert."""
        return {0: self.epochs}

    def load(self, expert: ExpertId, epoch: int) -> Params:
        """Return the parameters of an epoch."""
        return {name: value * (1 + 0.001 * epoch) for name, value in self.start.items()}


def dummy_setup(study: Resolved, paths: Paths, encoder: TextEncoder, device: torch.device) -> Setup:
    """Build the study's student on ``device``, with random pairs as all three splits; no photo is read.

    Texts are unit vectors, or token ids where the text encoder is trained. All images are views of one, so that a large
    set takes no memory. ``encoder`` need not be fitted.
    """
    set_policy(study.precision, device)
    student = build.build_student(study, paths, encoder=encoder).to(device)
    batches = (study.method.options.get(name) or 0 for name in BATCH_SIZES)
    number, pixels = max(PAIRS, largest(study, "method.num_pairs"), *batches), int(study.data.options["image_px"])
    draws = np.random.default_rng(0)
    image = draws.integers(0, 256, (1, 3, pixels, pixels), dtype=np.uint8)
    images = np.broadcast_to(image, (number, *image.shape[1:]))
    names = tuple(map(str, range(number)))
    inputs = images
    if study.student.image.train == "frozen":
        with torch.no_grad():
            width = student.image.prepare(torch.zeros(1, *image.shape[1:], device=device)).shape[1]
        inputs = draws.normal(size=(number, width)).astype(np.float32)
    if study.student.text.train == "frozen":
        rows = torch.randn(256, encoder.dim, generator=named_generator(0, "dummy/texts"))
        texts = normalize(rows, dim=1).numpy()
    else:
        tokens = cast(TrainableTextEncoder, encoder).tokens(captions(256))
        texts = tokens[:, (tokens >= 0).any(axis=0)]
    pairs = PreparedPairs(inputs, texts[np.arange(number) % len(texts)], np.arange(number))
    dataset = PairDataset(images, names, names, np.arange(number))
    random = PairsOnDemand(SPLITS, lambda split: pairs)
    return Setup(dict.fromkeys(SPLITS, dataset), random, student, device, encoder.key, texts[:1])


def captions(number: int) -> list[str]:
    """Return distinct captions of a usual length."""
    random = np.random.default_rng(0)
    return [f"{' '.join(random.permutation(WORDS)[:11])} {index}" for index in range(number)]


def dummy_run(study: Resolved, setup: Setup, *further: Setup) -> Distillation:
    """Return the study's run before its first outer step, against experts that move evenly.

    Raises:
        ValueError: the method learns something that has no learning rate in the study.
    """
    epochs = tuple(build.method(study).epochs())

    def expert(one: Setup) -> MovingExpert:
        return MovingExpert(one.student.init_params(named_generator(0, "dummy/expert")), epochs)

    return build.distillation(study, setup, expert(setup), further=[(one, expert(one)) for one in further])


def with_method(study: Resolved, *, num_pairs: int, **options: Any) -> Resolved:
    """Return the study with other options of its method, and a set that starts from real pairs, or mosaics of noise.

    Cluster centres, and photos that are alike, have the same shapes and take long to find.
    """
    image = "real" if study.method.tiles == 1 else "noise"
    start = {"init": {"image": image, "text": "real"}} if "init" in study.method.options else {}
    method = study.method.model_copy(update={"num_pairs": num_pairs, **start, **options})
    return study.model_copy(update={"method": method})
