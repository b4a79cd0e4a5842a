"""A study's steps on random numbers of its own shapes, so that they can be timed and weighed before any work."""

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from engine import build
from engine.config.load import Study
from engine.data.pairs import PairDataset
from engine.data.prepared import PreparedPairs
from engine.distill import Distillation, outer_optimiser
from engine.evaluation.student import StudentRecipe, train_student
from engine.experts.train import ExpertRecipe, train_epoch
from engine.experts.trajectory import ExpertId
from engine.methods import Method, Sources, State
from engine.models.text import TextEncoder, TrainableTextEncoder
from engine.models.two_tower import TwoTower
from engine.rng import named_generator
from engine.studies.job import Job
from engine.synthetic.initialisation import Init, SeedPairs, initial_tensors
from engine.tensors import Params

WORDS = (
    "small",
    "brown",
    "dog",
    "runs",
    "over",
    "green",
    "grass",
    "towards",
    "two",
    "children",
    "red",
    "ball",
    "river",
)
TEXTS = 256


@dataclass(frozen=True)
class DummyInputs:
    """The steps of a study with its own student; ``texts`` are some rows of what the text tower takes."""

    study: Study
    student: TwoTower
    texts: np.ndarray

    @property
    def pixels(self) -> int:
        """The side of an image."""
        return int(self.study.data.options["image_px"])

    @property
    def device(self) -> torch.device:
        """Where the student is."""
        return next(self.student.image.trained.parameters()).device

    def params(self) -> Params:
        """Return the parameters of a fresh student."""
        return self.student.init_params(named_generator(0, "rehearsal"))

    def pairs(self, number: int) -> PreparedPairs:
        """Return ``number`` pairs, each of an image of its own, as the student's trained parts take them."""
        images = self._images(number)
        return PreparedPairs(images, self.texts[np.arange(number) % len(self.texts)], np.arange(number))

    def _images(self, number: int) -> np.ndarray:
        """Return pixels, or features where the image encoder is frozen."""
        random, shape = np.random.default_rng(0), (3, self.pixels, self.pixels)
        if self.study.student.image.train != "frozen":
            return random.integers(0, 256, (number, *shape), dtype=np.uint8)
        with torch.no_grad():
            width = self.student.image.prepare(torch.zeros(1, *shape, device=self.device)).shape[1]
        return random.normal(size=(number, width)).astype(np.float32)

    def inputs(self, pairs: PreparedPairs, number: int) -> tuple[Tensor, Tensor]:
        """Return ``number`` prepared images and texts; pairs come again where there are fewer."""
        rows = torch.arange(number) % len(pairs)
        with torch.no_grad():
            texts = self.student.text.prepare(pairs.text_rows(rows, self.device))
        return pairs.image_rows(rows, self.device), texts

    def expert_batch(self, params: Params, pairs: PreparedPairs) -> Params:
        """Train an expert on one batch that holds all ``pairs``."""
        recipe: ExpertRecipe = replace(build.expert_recipe(self.study), batch_size=len(pairs))
        return train_epoch(self.student, params, pairs, recipe=recipe, generator=named_generator(0, "rehearsal/expert"))

    def student_step(self, params: Params, images: Tensor, texts: Tensor) -> None:
        """Train a student on one batch that holds all of the prepared ``images`` and ``texts``."""
        recipe = StudentRecipe(epochs=1, batch_size=len(images), momentum=self.study.protocol.momentum)
        learning_rates = {"image": 0.01, "text": 0.01}
        generator = named_generator(0, "rehearsal/student")
        list(
            train_student(
                self.student, params, images, texts, learning_rates=learning_rates, recipe=recipe, generator=generator
            )
        )

    def sources(self, method: Method, params: Params, pairs: PreparedPairs) -> Sources:
        """Return what a method reads: the student, an expert that moves from ``params``, and real pairs."""
        return Sources(self.student, MovingExpert(params, tuple(method.epochs())), pairs)

    def state(self, method: Method, sources: Sources) -> State:
        """Return what ``method`` starts from.

        That is random pairs in any case: cluster centres take time, and have the same shapes.
        """
        if hasattr(method, "init"):
            method = replace(cast(Any, method), init=Init())
        generator = named_generator(0, "rehearsal/init")
        seeds = self._seeds(sources.pairs, method.num_pairs)
        images, texts = initial_tensors(method.init, seeds, method.num_pairs, generator)
        return method.initial_state(images, texts, sources, generator).to(self.device)

    def distillation(self, method: Method, state: State, sources: Sources) -> Distillation:
        """Return a run with the study's optimiser before its first outer step.

        Raises:
            ValueError: the method learns something that the study has no rate for.
        """
        given, groups = self.study.optimiser, method.param_groups(state)
        optimiser = outer_optimiser(groups, given.learning_rates, name=given.name, momentum=given.momentum)
        return Distillation(method, state, optimiser, sources, seed=0, clip=given.clip, ema=given.ema)

    def _seeds(self, pairs: PreparedPairs, number: int) -> SeedPairs:
        """Return random real pairs that a synthetic set can start from."""
        shape = (number, 3, self.pixels, self.pixels)
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        names = tuple(map(str, range(number)))

        @torch.no_grad()
        def prepare(rows: Tensor) -> Tensor:
            prepared = self.student.text.prepare(rows.to(self.device))
            return prepared if prepared.is_meta else prepared.cpu()

        return SeedPairs(
            PairDataset(images, names, names, np.arange(number)),
            pairs.texts[np.arange(number) % len(pairs.texts)],
            lambda: torch.randn(number, 8, generator=named_generator(0, "rehearsal/features")),
            prepare,
        )


@dataclass(frozen=True, eq=False)
class MovingExpert:
    """An expert that moves by a thousandth of its parameters in each epoch."""

    start: Params
    epochs: tuple[int, ...]

    def index(self) -> dict[ExpertId, tuple[int, ...]]:
        """Return the epochs of the one expert."""
        return {0: self.epochs}

    def load(self, expert: ExpertId, epoch: int) -> Params:
        """Return the parameters of an epoch."""
        return {name: value * (1 + 0.001 * epoch) for name, value in self.start.items()}


def dummy_inputs(job: Job) -> DummyInputs:
    """Return the rehearsal of a study whose data are here, with texts of its own."""
    setup = job.specification.setup()
    return DummyInputs(job.study, setup.student, setup.pairs["train"].texts[:TEXTS])


def captions(number: int) -> list[str]:
    """Return captions of a usual length, all different."""
    random = np.random.default_rng(0)
    return [f"{' '.join(random.permutation(WORDS)[:11])} {index}" for index in range(number)]


def random_texts(study: Study, encoder: TextEncoder) -> np.ndarray:
    """Return rows of what the text tower takes: unit vectors, or token ids where its encoder is trained."""
    if study.student.text.train != "frozen":
        tokens = cast(TrainableTextEncoder, encoder).tokens(captions(TEXTS))
        return tokens[:, (tokens >= 0).any(axis=0)]
    rows = torch.randn(TEXTS, encoder.dim, generator=named_generator(0, "rehearsal/texts"))
    return normalize(rows, dim=1).numpy()
