"""Every method in its folder through one matrix."""

import gc
import weakref
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.config import components
from engine.data.pairs import PairDataset
from engine.data.prepared import PreparedPairs
from engine.distill import Distillation, NonFiniteLossError, outer_optimiser
from engine.io.files import digest
from engine.io.paths import Paths
from engine.methods import Sources, fix_unlearned
from engine.rng import named_generator
from engine.synthetic.initialisation import SeedPairs, initial_tensors
from engine.synthetic.set import SyntheticSet
from tests.toys import tiny_sources, tiny_student

METHODS = components.names("method")
RATES = {"image": 0.02, "text": 0.05, "log": 0.02, "similarity": 0.01}


def seed_pairs(sources: Sources) -> SeedPairs:
    pairs = sources.pairs
    pixels = named_generator(0, "pixels")
    images = torch.randint(0, 256, (len(pairs.images), 3, 8, 8), generator=pixels, dtype=torch.uint8).numpy()
    names = tuple(f"{number}.png" for number in range(len(images)))
    captions = tuple(f"caption {number}" for number in range(len(pairs)))
    dataset = PairDataset(images, names, captions, pairs.caption_image)
    return SeedPairs(dataset, pairs.texts, lambda: torch.from_numpy(pairs.texts))


def scopes(name: str) -> list[str]:
    return ["frozen"] if "frozen_encoders" in components.find("method", name).needs else ["full", "frozen"]


def start(name: str, paths: Paths, *, train: str | None = None, **options) -> Distillation:
    train = train or scopes(name)[0]
    method = components.bind("method", name, {"num_pairs": 6, **options})
    sources = tiny_sources(tiny_student(paths, train=train), epochs=max(3, method.epochs()[-1]))
    generator = named_generator(1, "init")
    images, texts = initial_tensors(method.init, seed_pairs(sources), method.num_pairs, generator)
    state = method.initial_state(images, texts, sources, generator)
    optimiser = outer_optimiser(method.param_groups(state), RATES)
    return Distillation(method, state, optimiser, sources, seed=1)


def values(run: Distillation) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.state.state_dict().items()}


def loss_of(synthetic: SyntheticSet, first: Distillation) -> float:
    """Return the loss of a set in the state that ``first`` is in, over the random choices of its first step."""
    state = deepcopy(first.state)
    state.synthetic = deepcopy(synthetic)
    return first.method.backward(state, first.sources, named_generator(first.seed, "outer/0"))["loss"]


@pytest.mark.parametrize(("name", "train"), [(name, train) for name in METHODS for train in scopes(name)])
def test_every_learnable_gets_a_gradient_and_the_same_step_descends(name: str, train: str, paths: Paths) -> None:
    run, first = (start(name, paths, train=train) for _ in range(2))
    run.run(2)  # L of a low-rank L R^T waits for R
    learned = [value for entry in run.method.param_groups(run.state) for value in entry["params"]]
    assert learned
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in learned)
    for _ in range(28):  # of the same random choices: random pairs have nothing in common that a set could learn
        run.step = 0
        run.run(1)
    before, after = loss_of(first.synthetic, first), loss_of(run.synthetic, first)
    assert after < 0.99 * before


@pytest.mark.parametrize("name", METHODS)
def test_ten_steps_equal_five_a_checkpoint_and_five_bitwise(name: str, paths: Paths, tmp_path: Path) -> None:
    whole = start(name, paths)
    whole.run(10)
    first = start(name, paths)
    first.run(5)
    first.save(tmp_path / "checkpoint.safetensors")
    second = start(name, paths)
    second.load(tmp_path / "checkpoint.safetensors")
    assert second.step == 5
    second.run(5)
    assert all(torch.equal(value, values(second)[key]) for key, value in values(whole).items())


@pytest.mark.parametrize("name", METHODS)
def test_a_run_leaves_the_trajectories_as_they_were(name: str, paths: Paths) -> None:
    run = start(name, paths)

    def hashed() -> str:
        experts = run.sources.experts
        snapshots = [experts.load(e, k) for e, epochs in sorted(experts.index().items()) for k in epochs]
        return digest(*(value.numpy().tobytes() for snapshot in snapshots for value in snapshot.values()))

    before = hashed()
    run.run(3)
    assert hashed() == before


def test_a_loss_that_is_not_finite_ends_the_run_with_the_set_as_it_was(paths: Paths) -> None:
    run = start("bi_trajectory", paths)
    run.run(2)
    with torch.no_grad():
        run.state.synthetic.log_rates["image"].fill_(float("nan"))
    before = values(run)
    with pytest.raises(NonFiniteLossError, match=r"method bi_trajectory: the loss of outer step 2 is not finite"):
        run.run(1)
    assert torch.equal(before["synthetic.images"], run.state.synthetic.images)


@pytest.mark.parametrize(("learn", "fixed"), [("images", "texts"), ("texts", "images")])
def test_a_single_modality_leaves_the_other_as_it_started(learn: str, fixed: str, paths: Paths) -> None:
    run = start("bi_trajectory", paths, learn={"images": learn == "images", "texts": learn == "texts"})
    before = values(run)
    run.run(3)
    assert torch.equal(before[f"synthetic.{fixed}"], values(run)[f"synthetic.{fixed}"])
    assert not torch.equal(before[f"synthetic.{learn}"], values(run)[f"synthetic.{learn}"])


@pytest.mark.parametrize("gradient", ["exact", "stored", "truncated"])
def test_what_is_not_learned_changes_no_other_gradient(paths: Paths, gradient: str) -> None:
    whole = start("lors", paths, train="frozen", gradient=gradient)
    texts = start("lors", paths, train="frozen", gradient=gradient, learn={"images": False, "learning_rates": False})
    fix_unlearned(texts.state.synthetic, texts.method.param_groups(texts.state))
    for run in (whole, texts):
        run.method.backward(run.state, run.sources, named_generator(5, "step"))
    learned = texts.state.synthetic
    torch.testing.assert_close(learned.texts.grad, whole.state.synthetic.texts.grad, rtol=1e-4, atol=1e-7)
    assert learned.images.grad is None
    assert all(value.grad is None for value in learned.log_rates.values())
    assert whole.state.synthetic.images.grad is not None


def test_encoding_once_gives_the_gradient_of_encoding_at_every_step(paths: Paths) -> None:
    run = start("bi_trajectory", paths, train="frozen", inner_batch=2, inner_steps=2)
    run.state.zero_grad()
    run.method.backward(run.state, run.sources, named_generator(5, "step"))
    synthetic, student = run.state.synthetic, run.sources.student
    ours = synthetic.images.grad.clone()
    assert (ours.flatten(1).abs().amax(1) > 0).sum() == 4  # two steps of two of six pairs
    from torch import nn

    whole = replace(student.image, frozen=nn.Identity())
    encoder = student.image.frozen

    class Encoding(type(whole)):
        def apply(self, params, prepared):
            return super().apply(params, encoder(prepared))

    again = Encoding(**{name: getattr(whole, name) for name in whole.__dataclass_fields__})
    run.state.zero_grad()
    run.method.backward(
        run.state, replace(run.sources, student=replace(student, image=again)), named_generator(5, "step")
    )
    torch.testing.assert_close(ours, synthetic.images.grad, rtol=1e-4, atol=1e-7)


def same(a: Distillation, b: Distillation, *, steps: int = 3) -> bool:
    """Say whether two runs learn the same images, texts and rates, up to rounding."""
    a.run(steps)
    b.run(steps)
    shared = [name for name in values(a) if "similarity" not in name]
    return all(torch.allclose(values(a)[name], values(b)[name], rtol=1e-4, atol=1e-6) for name in shared)


IDENTITY = {"kind": "identity"}


def test_lors_with_the_identity_and_info_nce_is_truncated_bi_trajectory_matching(paths: Paths) -> None:
    batches = {"inner_batch": 3, "inner_steps": 4, "train": "frozen"}
    lors = start("lors", paths, similarity=IDENTITY, loss="info_nce", **batches)
    assert same(lors, start("bi_trajectory", paths, gradient="truncated", **batches))
    assert not same(lors, start("bi_trajectory", paths, **batches))


def test_repblend_without_blending_is_lors_on_heads(paths: Paths) -> None:
    plain = start("repblend", paths, blend=None)
    assert same(plain, start("lors", paths, train="frozen"))
    assert not same(start("repblend", paths), start("lors", paths, train="frozen"))


def test_a_shortcut_of_one_epoch_is_the_trajectory_itself(paths: Paths) -> None:
    assert same(start("bi_trajectory", paths, max_start=1, shortcut=1), start("bi_trajectory", paths, max_start=1))
    away = start("bi_trajectory", paths, max_start=1, span=2, shortcut=3)
    assert not same(away, start("bi_trajectory", paths, max_start=1, span=2))


def test_a_shortcut_that_is_too_short_says_so(paths: Paths) -> None:
    method = components.bind("method", "lors", {"num_pairs": 6, "shortcut": 2, "max_start": 2, "span": 2})
    with pytest.raises(
        ValueError, match=r"^method\.shortcut is 2, expected at least 3, the last epoch of a segment\.$"
    ):
        method.epochs()


def test_covmatch_draws_its_online_student_anew_in_time(paths: Paths) -> None:
    run = start("covmatch", paths, reset_every=2)
    ages = []
    run.run(5, lambda step, state, metrics: ages.append(int(state.age)))
    assert ages == [1, 2, 1, 2, 1]


def test_the_loss_of_real_pairs_adds_to_the_match(paths: Paths) -> None:
    plain, both = start("bi_trajectory", paths), start("bi_trajectory", paths, real_weight=0.5)
    first, second = plain.run(1), both.run(1)
    assert second["loss"] == pytest.approx(first["loss"] + second["loss/real"], rel=1e-6)
    assert not torch.equal(values(plain)["synthetic.texts"], values(both)["synthetic.texts"])
    run = start("bi_trajectory", paths, real_weight=0.5, gradient="stored")
    run.run(1)
    assert all(torch.allclose(value, values(both)[name], atol=1e-5) for name, value in values(run).items())


REAL = {
    "apm": {"batch": 8},
    "bi_trajectory": {"real_weight": 0.5, "real_batch": 8},
    "covmatch": {"batch": 8, "real_batch": 8},
    "mdm": {"batch": 8},
    "through_training": {"real_batch": 8},
}


def test_every_method_that_reads_real_pairs_is_named() -> None:
    reading = {name for name in METHODS if "pairs" in components.find("method", name).needs}
    assert reading | {"bi_trajectory"} == REAL.keys(), "bi_trajectory reads them with real_weight alone"


@pytest.mark.parametrize("name", sorted(REAL))
def test_a_real_batch_holds_no_image_twice(name: str, paths: Paths) -> None:
    run, seen = start(name, paths, **REAL[name]), []

    class Recording(PreparedPairs):
        def image_rows(self, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
            seen.append(rows.tolist())
            return super().image_rows(rows, device)

    pairs = run.sources.pairs
    run.sources = replace(run.sources, pairs=Recording(pairs.images, pairs.texts, pairs.caption_image))
    run.run(5)
    assert len(seen) >= 5
    assert all(len(rows) == 8 == len(set(rows)) for rows in seen)


def test_a_run_keeps_its_shortcuts_and_frees_them_with_itself(paths: Paths) -> None:
    run = start("lors", paths, max_start=1, span=2, shortcut=3)
    run.run(2)
    assert run.sources.trajectories(3) is run.sources.trajectories(3)
    freed = weakref.ref(run.sources.experts)
    del run
    gc.collect()
    assert freed() is None


def test_no_method_inherits_another() -> None:
    assert all(components.find("method", name).__bases__ == (object,) for name in METHODS)
