"""Training on a set: a student of the engine, and modules of one's own."""

import pytest
import torch
from torch import nn

from engine.evaluation.own_model import train_on_set, train_student_on
from engine.io.paths import Paths
from engine.losses.contrastive import contrastive_loss
from engine.recipes import StudentRecipe
from engine.rng import forked, named_generator
from engine.synthetic.set import SyntheticSet
from engine.synthetic.similarity import Full
from tests.toys import PIXELS, TEXT_FEATURES, tiny_student

RECIPE = StudentRecipe(epochs=20, batch_size=4)


def a_set(rate: float = 0.1) -> SyntheticSet:
    drawn = named_generator(0, "set")
    images, texts = torch.rand(6, 3, PIXELS, PIXELS, generator=drawn), torch.randn(6, TEXT_FEATURES, generator=drawn)
    similarity = Full(6)
    with torch.no_grad():
        similarity.matrix[0, 1] = similarity.matrix[1, 0] = 0.5
    return SyntheticSet(images, texts, {"image": rate, "text": rate}, similarity=similarity, loss="kl")


def own(*, dropout: float = 0.0) -> tuple[nn.Module, nn.Module]:
    with forked(named_generator(0, "own")):
        image = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(3 * PIXELS**2, 5))
        return image, nn.Linear(TEXT_FEATURES, 5)


def loss(synthetic: SyntheticSet, image: nn.Module, text: nn.Module) -> float:
    embedded, target = (image(synthetic.images), text(synthetic.texts)), synthetic.similarity()
    return contrastive_loss(*embedded, temperature=0.07, similarity=target, loss=synthetic.loss).item()


def test_modules_of_ones_own_learn_in_place() -> None:
    synthetic, (image, text) = a_set(), own()
    text.bias.requires_grad_(False)
    before, still = loss(synthetic, image, text), text.bias.clone()
    train_on_set(synthetic, image, text, recipe=RECIPE)
    assert loss(synthetic, image, text) < before - 0.1
    assert torch.equal(text.bias, still), "a parameter that needs no gradient"
    assert all(value.grad is None for value in (*image.parameters(), *text.parameters()))


def test_the_learned_rates_count_and_a_seed_decides_everything() -> None:
    def trained(synthetic: SyntheticSet, seed: int, **options: object) -> torch.Tensor:
        image, text = own(dropout=0.5)
        train_on_set(synthetic, image, text, recipe=RECIPE, seed=seed, **options)  # type: ignore[arg-type]
        return image[-1].weight.detach()  # type: ignore[index]

    first = trained(a_set(), 0)
    assert torch.equal(trained(a_set(), 0), first)
    assert not torch.equal(trained(a_set(), 1), first)
    assert not torch.equal(trained(a_set(0.2), 0), first)
    assert torch.equal(trained(a_set(0.2), 0, learning_rates=a_set().learning_rates()), first)


def test_texts_may_be_tokens_of_the_captions() -> None:
    image, _ = own()
    text = nn.EmbeddingBag(9, 5)
    train_on_set(a_set(), image, text, texts=torch.arange(12).view(6, 2) % 9, recipe=RECIPE)
    with pytest.raises(ValueError, match=r"texts has 5 rows, expected one for each of the 6 pairs"):
        train_on_set(a_set(), image, text, texts=torch.zeros(5, 2, dtype=torch.long))


def test_what_diverges_is_an_error_and_leaves_the_modules_as_they_were() -> None:
    image, text = own()
    before = text.weight.clone()
    with pytest.raises(ValueError, match="expected finite numbers"):
        train_on_set(a_set(), image, text, learning_rates={"image": 1e30, "text": 1e30}, recipe=RECIPE)
    assert torch.equal(text.weight, before)


def test_a_student_of_the_engine_learns(paths: Paths) -> None:
    student, synthetic = tiny_student(paths), a_set()
    start = student.init_params(named_generator(0, "own/init"))
    params = train_student_on(synthetic, student, recipe=RECIPE)
    assert params.keys() == start.keys()
    losses = [
        student.loss(p, synthetic.images, synthetic.texts, similarity=synthetic.similarity(), loss="kl").item()
        for p in (start, params)
    ]
    assert losses[1] < losses[0]
