"""Train a model on a synthetic set with what it learned: a student of the engine, or two modules of one's own."""

from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engine.evaluation.protocol import prepare_set
from engine.evaluation.student import fresh_student, train_student
from engine.models.two_tower import EncoderWithHead, Tower, TwoTower
from engine.recipes import StudentRecipe
from engine.rng import forked, named_generator
from engine.synthetic.set import SyntheticSet
from engine.tensors import Modality, Params, check_finite


def train_student_on(
    synthetic: SyntheticSet, student: TwoTower, *, recipe: StudentRecipe | None = None, seed: int = 0
) -> Params:
    """Train a fresh student on a set at its learned rates, under its loss and similarity, and return its parameters."""
    training = prepare_set(student, synthetic, student.device)
    assert training.learning_rates is not None
    given, recipe = training.learning_rates, recipe or StudentRecipe()
    return next(fresh_student(student, training, learning_rates=given, recipe=recipe, seed=seed, stream="own"))


def train_on_set(
    synthetic: SyntheticSet,
    image: nn.Module,
    text: nn.Module,
    *,
    texts: Tensor | None = None,
    learning_rates: dict[Modality, float] | None = None,
    temperature: float = 0.07,
    recipe: StudentRecipe | None = None,
    seed: int = 0,
) -> None:
    """Train two modules of one's own in place on a set, under the loss and the similarity that it learned.

    ``image`` maps the set's images [b, 3, h, w], RGB in [0, 1], and ``text`` its text embeddings [b, d], or the rows
    of ``texts`` in their place (token ids of the captions), to vectors of one width; they are compared by cosine, at
    ``temperature``. Both stay in the mode that they are in, and parameters that need no gradient stay as they are.
    ``learning_rates`` None are those that the set has learned, which suit students like those of its distillation.
    ``recipe`` None is ``StudentRecipe()``: 100 epochs of SGD.

    Raises:
        ValueError: ``texts`` has another number of rows than the set has pairs, or the training diverges; the modules
            are then as they were.
    """
    if texts is not None and len(texts) != len(synthetic):
        raise ValueError(f"texts has {len(texts)} rows, expected one for each of the {len(synthetic)} pairs.")
    reader = text if texts is None else _Rows(text, texts)
    student = TwoTower(_tower("image", image), _tower("text", reader), temperature)
    named = [
        (f"{tower.modality}.{name}", value)
        for tower in (student.image, student.text)
        for name, value in tower.trained.named_parameters()
    ]
    learned = {name: value for name, value in named if value.requires_grad}
    device = next(iter(learned.values())).device
    training = prepare_set(student, synthetic, device)
    if texts is not None:
        training = replace(training, texts=torch.arange(len(texts), device=device).float())
    generator = named_generator(seed, "own/order")
    with forked(named_generator(seed, "own/dropout")):
        *_, params = train_student(
            student,
            {name: value.detach() for name, value in learned.items()},
            training,
            learning_rates=learning_rates or synthetic.learning_rates(),
            recipe=recipe or StudentRecipe(),
            generator=generator,
        )
    for name, value in params.items():
        check_finite(name, value)
    with torch.no_grad():
        for name, value in params.items():
            learned[name].copy_(value)


class _Rows(nn.Module):
    """A module on texts that are no floats: it takes their rows."""

    def __init__(self, module: nn.Module, texts: Tensor) -> None:
        super().__init__()
        self.module, self.texts = module, texts

    def forward(self, rows: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        return cast(Tensor, self.module(self.texts.to(rows.device)[rows.long()]))


def _tower(modality: Modality, module: nn.Module) -> Tower:
    """Return a module of one's own as a tower without a head, all of which is trained."""
    return Tower(modality, nn.Identity(), EncoderWithHead(module, nn.Identity()), lambda: module, nn.Identity, False)
