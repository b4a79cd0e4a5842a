"""From a configuration to the student and its data: frozen, trained and adapted encoders."""

from pathlib import Path

import pytest
import torch

from engine import build
from engine.config.components import names
from engine.config.load import ConfigError, Study, change, load, resolve
from engine.evaluation.protocol import evaluate, prepare_set
from engine.experts.train import train_expert
from engine.experts.trajectory import MemorySource
from engine.io.paths import Paths
from engine.models.lora import is_adapter
from tests.models.text.test_transformers import tiny_bert

SPACE = Path(__file__).with_name("tiny.yaml")
TEXT = "student.text={encoder: transformers, model: tiny-bert, train: %s, head: linear, max_length: 16}"


def study(*overrides: str) -> Study:
    return resolve(load(SPACE, overrides))


@pytest.fixture
def bert(paths: Paths) -> Paths:
    tiny_bert(paths.weights / "tiny-bert")
    return paths


@pytest.mark.parametrize("train", ["full", "lora"])
def test_a_trained_text_encoder_reads_token_ids_of_one_length(bert: Paths, train: str) -> None:
    given = build.build_setup(study(TEXT % train), bert)
    widths = {pairs.texts.shape[1] for pairs in given.pairs.values()}
    assert len(widths) == 1
    assert given.pairs["train"].texts.dtype.kind == "i"
    assert given.text_shape() == (*widths, 17)
    inside = [name for name in given.student.init_params(torch.Generator()) if name.startswith("text.encoder.")]
    assert inside
    assert all(is_adapter(name) == (train == "lora") for name in inside)


def test_a_frozen_text_encoder_gives_embeddings(bert: Paths) -> None:
    given = build.build_setup(study(TEXT % "frozen"), bert)
    texts = given.pairs["val"].texts
    assert texts.shape[1:] == given.text_shape() == (16,)
    rows = given.pairs["val"].text_rows(torch.arange(3), given.device)
    assert given.prepared_texts(rows).tolist() == texts[:3].tolist()


@pytest.mark.parametrize("train", ["full", "lora"])
def test_token_embeddings_are_distilled_and_their_lengths_are_not(bert: Paths, train: str) -> None:
    chosen = study(TEXT % train)
    given = build.build_setup(chosen, bert)
    epochs = max(build.method(chosen).epochs())
    run = train_expert(given.student, given.pairs["train"], seed=0, name="expert/0", epochs=epochs)
    distillation = build.distillation(chosen, given, MemorySource([dict(run)]))
    before = distillation.synthetic.texts.detach().clone()
    distillation.run(2)
    after = distillation.synthetic.texts.detach()
    mask = before[..., -1] > 0.5
    assert torch.equal(after[..., -1], before[..., -1])
    assert torch.equal(after[~mask], before[~mask])
    assert (after - before)[mask][:, :-1].abs().amax(dim=1).min() > 0


def test_adapters_of_the_image_encoder_take_the_options_of_the_study(paths: Paths) -> None:
    chosen = study("student.image.train=lora", "student.image.lora={rank: 3, targets: [backbone.4]}")
    given = build.build_setup(chosen, paths)
    adapters = {n: v for n, v in given.student.init_params(torch.Generator()).items() if is_adapter(n)}
    assert {name.partition(".lora_")[0] for name in adapters} == {"image.encoder.backbone.4"}
    assert min(min(value.shape[:2]) for value in adapters.values()) == 3


def test_what_cannot_be_trained_is_refused(paths: Paths) -> None:
    with pytest.raises(
        ValueError, match=r"^student\.text\.train: tfidf cannot be trained as 'lora', expected frozen\.$"
    ):
        build.build_setup(study("student.text.train=lora"), paths)


def test_adapters_of_a_frozen_encoder_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"student\.text\.lora is .*, expected null, since train is frozen"):
        study("student.text.lora.rank=2")


def test_augmentation_that_no_expert_would_see_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^experts\.augmentation is 'flip', expected none, since .* is frozen"):
        build.expert_recipe(study("experts.augmentation=flip", "student.image.train=frozen"))


FROZEN_TEXTS = ("student.text.head=none", "student.text.train=frozen")
FROZEN_IMAGES = ("student.image.train=frozen", "student.image.head=none")


@pytest.mark.parametrize(
    ("fixed", "learned", "overrides"), [("text", "image", FROZEN_TEXTS), ("image", "text", FROZEN_IMAGES)]
)
@pytest.mark.parametrize("method", ["{name: bi_trajectory, num_pairs: 4}", "{name: through_training, num_pairs: 4}"])
def test_one_tower_may_be_frozen_without_a_head(
    paths: Paths, fixed: str, learned: str, overrides: tuple[str, ...], method: str
) -> None:
    chosen = study(*overrides, "search={}", f"method={method}")
    given = build.build_setup(chosen, paths)
    run = [params for _, params in train_expert(given.student, given.pairs["train"], seed=0, name="e", epochs=3)]
    assert {name.partition(".")[0] for name in run[0]} == {learned}
    assert any(not torch.equal(value, run[-1][name]) for name, value in run[0].items())
    distillation = build.distillation(chosen, given, MemorySource([dict(enumerate(run))]))
    before = distillation.synthetic.images.detach().clone()
    losses = {name for name in distillation.run(2) if name.startswith("loss/")}
    assert losses == ({f"loss/{learned}"} if "trajectory" in method else {"loss/real"})
    assert not torch.equal(distillation.synthetic.images, before)
    training = prepare_set(given.student, distillation.synthetic, given.device)
    scores = evaluate(
        given.student, training, build.protocol(chosen), seed=0, val=given.pairs["val"], test=given.pairs["test"]
    )
    assert all(score["mean_recall"] > 0 for score in scores.seeds)


@pytest.fixture
def heads(paths: Paths) -> tuple[Study, build.Setup, MemorySource]:
    """Return a study of frozen encoders with its setup and one expert of six epochs."""
    frozen = study("student.image.train=frozen", "search={}", "optimiser.similarity_lr=0.01")
    given = build.build_setup(frozen, paths)
    return (
        frozen,
        given,
        MemorySource([dict(train_expert(given.student, given.pairs["train"], seed=0, name="0", epochs=6))]),
    )


@pytest.mark.parametrize("method", names("method"))
def test_every_method_takes_pyramids_and_views(method: str, heads: tuple[Study, build.Setup, MemorySource]) -> None:
    base, given, experts = heads
    short = {"max_epoch": 3} if method == "mdm" else {}
    options = {"name": method, "num_pairs": 6, "images": "pyramid", "finest": 4, "views": {"crop": [0.5, 0.9]}, **short}
    run = build.distillation(resolve(change(base, {"method": options}, place="test")), given, experts)
    before = run.synthetic.images.detach().clone()
    run.run(2)
    assert run.pyramid is not None
    assert [layer.shape[-1] for layer in run.pyramid.layers] == [1, 2, 4]
    assert all(layer.abs().sum() > 0 for layer in run.pyramid.layers)
    assert torch.equal(run.state.synthetic.images, run.pyramid())
    assert not torch.equal(run.state.synthetic.images, before)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name": "covmatch", "views": {"count": 2}}, r"method\.views\.count is 2, expected 1: covmatch trains"),
        ({"name": "lors", "learn": {"images": False}, "bound": 0.1}, r"method\.bound is 0\.1, expected null, since"),
        ({"name": "lors", "learn": {"images": False}, "images": "pyramid"}, r"method\.images is 'pyramid', expected"),
        (
            {"name": "lors", "images": "pyramid", "finest": 500},
            r"method\.finest is 500, expected at most the \d+ pixels",
        ),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    options: dict[str, object], told: str, heads: tuple[Study, build.Setup, MemorySource]
) -> None:
    base, given, experts = heads
    chosen = resolve(change(base, {"method": {"num_pairs": 6, **options}}, place="test"))
    with pytest.raises(ValueError, match=told):
        build.distillation(chosen, given, experts)
