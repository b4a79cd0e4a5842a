"""Text encoders that students train: token ids, token embeddings, full and adapted, and their derivatives."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.data.prepared import PreparedPairs
from engine.experts.train import ExpertRecipe, train_expert
from engine.io.paths import Paths
from engine.losses.matching import matching_losses
from engine.models.heads import build_head
from engine.models.lora import Lora, is_adapter
from engine.models.text import TrainableTextEncoder, tfidf, transformers
from engine.models.two_tower import Tower, TwoTower, make_tower
from engine.rng import forked, named_generator
from engine.unroll import GRADIENTS, InnerBatch, Unroll
from tests.models.text.test_transformers import CAPTIONS, tiny_bert, tiny_distilbert
from tests.toys import PIXELS, tiny_student

KINDS = {"bert": tiny_bert, "distilbert": tiny_distilbert}


@pytest.fixture(params=sorted(KINDS))
def folder(request: pytest.FixtureRequest, paths: Paths) -> Paths:
    save: Callable[[Path], None] = KINDS[request.param]
    save(paths.weights / "tiny-bert")
    return paths


def load(paths: Paths, **options: object) -> transformers.TransformersEncoder:
    return transformers.build(paths, model="tiny-bert", **{"max_length": 9, **options})


def text_tower(paths: Paths, *, train: str, dtype: torch.dtype = torch.float32, head: str = "linear") -> Tower:
    encoder = load(paths)
    before, trained = encoder.split()
    return make_tower(
        "text",
        build_encoder=lambda: trained.to(dtype),
        build_head=lambda: build_head(head, features=encoder.dim, width=5 if head == "linear" else 16).to(dtype),
        train=train,  # type: ignore[arg-type]
        pretrained=True,
        lora=Lora(rank=2) if train == "lora" else None,
        before=before.to(dtype),
    )


def student(paths: Paths, *, train: str, dtype: torch.dtype = torch.float32) -> TwoTower:
    return TwoTower(tiny_student(paths, dtype=dtype).image, text_tower(paths, train=train, dtype=dtype), 0.5)


def ids(paths: Paths, captions: list[str] = CAPTIONS) -> torch.Tensor:
    return torch.from_numpy(load(paths).tokens(captions))


def test_only_transformers_is_trainable(folder: Paths) -> None:
    assert isinstance(load(folder), TrainableTextEncoder)
    assert not isinstance(tfidf.build(folder), TrainableTextEncoder)


def test_tokens_are_those_of_the_tokenizer_and_minus_one_behind(folder: Paths) -> None:
    encoder = load(folder)
    rows = encoder.tokens(CAPTIONS)
    assert rows.shape == (4, 9)
    for row, caption in zip(rows, CAPTIONS, strict=True):
        expected = encoder.tokenizer(caption, truncation=True, max_length=9)["input_ids"]
        assert row[: len(expected)].tolist() == expected
        assert (row[len(expected) :] == -1).all()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalize", [True, False])
def test_starts_as_the_frozen_encoder(folder: Paths, pooling: str, normalize: bool) -> None:
    encoder = load(folder, pooling=pooling, normalize=normalize)
    before, trained = encoder.split()
    with torch.no_grad():
        prepared = before(ids(folder))
        torch.testing.assert_close(trained(prepared), encoder.embed(CAPTIONS), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            trained(before(ids(folder)[:1, :6])), encoder.embed(CAPTIONS[:1]), atol=1e-5, rtol=1e-5
        )
    assert prepared.shape == (4, 9, encoder.dim + 1)
    assert torch.equal(prepared[..., -1], (ids(folder) >= 0).float())


def test_splitting_leaves_the_encoder_alone(folder: Paths) -> None:
    encoder = load(folder)
    expected = encoder.embed(CAPTIONS)
    before, trained = encoder.split()
    for value in [*before.parameters(), *trained.parameters()]:
        assert not value.requires_grad
        value.zero_()
    assert torch.equal(encoder.embed(CAPTIONS), expected)
    assert not any(module.training for part in (before, trained) for module in part.modules())


@pytest.mark.parametrize("train", ["full", "lora"])
def test_parameters_are_the_encoder_without_its_tokens(folder: Paths, train: str) -> None:
    tower = text_tower(folder, train=train)
    params = tower.init_params(named_generator(0, "a"))
    assert {"text.head.weight", "text.head.bias"} < set(params)
    assert not any("word_embeddings" in name or "pooler" in name for name in params)
    inside = [name for name in params if name.startswith("text.encoder.")]
    assert inside
    assert all(is_adapter(name) == (train == "lora") for name in inside)
    assert not any(value.requires_grad for value in [*tower.frozen.parameters(), *tower.trained.parameters()])


@pytest.mark.parametrize("train", ["full", "lora"])
def test_a_synthetic_text_keeps_its_length_and_padding(folder: Paths, train: str) -> None:
    tower = text_tower(folder, train=train)
    params = {name: value.requires_grad_() for name, value in tower.init_params(named_generator(0, "a")).items()}
    texts = tower.prepare(ids(folder)).requires_grad_()
    (gradient,) = torch.autograd.grad(tower.apply(params, texts).square().sum(), texts)
    mask = texts[..., -1] > 0.5
    assert not gradient[..., -1].any()
    assert not gradient[~mask].any()
    assert gradient[mask][:, :-1].abs().amax(dim=1).min() > 0


@pytest.mark.parametrize("train", ["full", "lora"])
def test_an_expert_trains_it(folder: Paths, train: str) -> None:
    given = student(folder, train=train)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (len(CAPTIONS), 3, PIXELS, PIXELS), dtype=np.uint8)
    pairs = PreparedPairs(pixels, load(folder).tokens(CAPTIONS), np.arange(len(CAPTIONS)))
    run = dict(train_expert(given, pairs, seed=0, name="e", epochs=2, recipe=ExpertRecipe(batch_size=4)))
    moved = {name for name, value in run[0].items() if not torch.equal(value, run[2][name])}
    still = run[0].keys() - moved
    assert all("key" in name or "k_lin" in name or "position" in name or "token_type" in name for name in still), still
    assert any(name.startswith("text.encoder.") for name in moved)


def unroll(paths: Paths, train: str) -> Unroll:
    """Return three steps on learnable token embeddings in float64."""
    given = student(paths, train=train, dtype=torch.float64)
    generator = named_generator(0, "unroll")
    noise = partial(torch.randn, generator=generator, dtype=torch.float64)
    start = {name: value + 0.05 * noise(value.shape) for name, value in given.init_params(generator).items()}
    target = {name: value + 0.05 * noise(value.shape) for name, value in start.items()}
    images = torch.rand(4, 3, PIXELS, PIXELS, generator=generator, dtype=torch.float64)
    data = {"images": images, "texts": given.text.prepare(ids(paths))}

    def loss(params: dict, data: dict, draw: InnerBatch) -> torch.Tensor:
        return given.loss(params, data["images"][draw.pairs], data["texts"][draw.pairs])

    learning_rates = {"image": torch.tensor(0.2, dtype=torch.float64), "text": torch.tensor(0.1, dtype=torch.float64)}
    draws = [InnerBatch(torch.randperm(4, generator=generator)[:3]) for _ in range(3)]
    return Unroll(loss, start, partial(matching_losses, start=start, target=target), data, learning_rates, draws)


@pytest.mark.parametrize("train", ["full", "lora"])
def test_the_exact_gradient_is_the_stored_one(folder: Paths, train: str) -> None:
    problem = unroll(folder, train)
    exact, stored = (GRADIENTS[name](problem) for name in ("exact", "stored"))
    for name in problem.data:
        assert stored.data[name].abs().max() > 0
        torch.testing.assert_close(exact.data[name], stored.data[name], rtol=1e-9, atol=1e-12)
    for modality in problem.learning_rates:
        torch.testing.assert_close(
            exact.learning_rates[modality], stored.learning_rates[modality], rtol=1e-9, atol=1e-12
        )


def test_a_model_with_idle_parameters_is_refused(paths: Paths) -> None:
    tiny_bert(paths.weights / "tiny-bert")
    encoder = load(paths)
    with forked(named_generator(0, "idle")):
        encoder.model.idle = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"^student\.text\.train: BertModel cannot be trained, .* 2 of .*idle\.weight"):
        encoder.split()
