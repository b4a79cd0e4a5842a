"""Every method in its folder through one matrix."""

from pathlib import Path

import pytest
import torch

from engine import components
from engine.data.pairs import PairDataset
from engine.distill import Distillation, NonFiniteLossError
from engine.files import digest
from engine.methods import Sources
from engine.optimiser import outer_optimiser
from engine.places import Places
from engine.rng import stream
from engine.synthetic.initialisation import SeedPairs
from tests.problems import tiny_sources, tiny_student

METHODS = components.names("method")
RATES = {"image": 0.02, "text": 0.05, "log": 0.02, "similarity": 0.01}


def seed_pairs(sources: Sources) -> SeedPairs:
    pairs = sources.pairs
    pixels = stream(0, "pixels")
    images = torch.randint(0, 256, (len(pairs.images), 3, 8, 8), generator=pixels, dtype=torch.uint8).numpy()
    names = tuple(f"{number}.png" for number in range(len(images)))
    captions = tuple(f"caption {number}" for number in range(len(pairs)))
    dataset = PairDataset(images, names, captions, pairs.caption_image)
    return SeedPairs(dataset, pairs.texts, lambda: torch.from_numpy(pairs.texts))


def start(name: str, places: Places, *, train: str = "full", **options) -> Distillation:
    method = components.bind("method", name, {"num_pairs": 6, **options})
    sources = tiny_sources(tiny_student(places, train=train))
    state = method.initial_state(seed_pairs(sources), sources, stream(1, "init"))
    optimiser = outer_optimiser(method.param_groups(state), RATES)
    return Distillation(method, state, optimiser, sources, seed=1)


def values(run: Distillation) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.state.state_dict().items()}


@pytest.mark.parametrize("train", ["full", "frozen"])
@pytest.mark.parametrize("name", METHODS)
def test_every_learnable_gets_a_gradient_and_thirty_steps_descend(name: str, train: str, places: Places) -> None:
    run = start(name, places, train=train)
    losses = []
    run.run(1, lambda step, state, metrics: losses.append(metrics["loss"]))
    learned = [value for entry in run.method.param_groups(run.state) for value in entry["params"]]
    assert learned
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in learned)
    run.run(29, lambda step, state, metrics: losses.append(metrics["loss"]))
    assert sum(losses[-8:]) < sum(losses[:8])


@pytest.mark.parametrize("name", METHODS)
def test_ten_steps_equal_five_a_checkpoint_and_five_bitwise(name: str, places: Places, tmp_path: Path) -> None:
    whole = start(name, places)
    whole.run(10)
    first = start(name, places)
    first.run(5)
    first.save(tmp_path / "checkpoint.safetensors")
    second = start(name, places)
    second.load(tmp_path / "checkpoint.safetensors")
    assert second.step == 5
    second.run(5)
    assert all(torch.equal(value, values(second)[key]) for key, value in values(whole).items())


@pytest.mark.parametrize("name", METHODS)
def test_a_run_leaves_the_trajectories_as_they_were(name: str, places: Places) -> None:
    run = start(name, places)

    def hashed() -> str:
        experts = run.sources.experts
        snapshots = [experts.load(e, k) for e, epochs in sorted(experts.index().items()) for k in epochs]
        return digest(*(value.numpy().tobytes() for snapshot in snapshots for value in snapshot.values()))

    before = hashed()
    run.run(3)
    assert hashed() == before


def test_a_loss_that_is_not_finite_ends_the_run_with_the_set_as_it_was(places: Places) -> None:
    run = start("bi_trajectory", places)
    run.run(2)
    with torch.no_grad():
        run.state.synthetic.log_rates["image"].fill_(float("nan"))
    before = values(run)
    with pytest.raises(NonFiniteLossError, match=r"method bi_trajectory: the loss of outer step 2 is not finite"):
        run.run(1)
    assert torch.equal(before["synthetic.images"], run.state.synthetic.images)


@pytest.mark.parametrize(("learn", "fixed"), [("images", "texts"), ("texts", "images")])
def test_a_single_modality_leaves_the_other_as_it_started(learn: str, fixed: str, places: Places) -> None:
    run = start("bi_trajectory", places, learn={"images": learn == "images", "texts": learn == "texts"})
    before = values(run)
    run.run(3)
    assert torch.equal(before[f"synthetic.{fixed}"], values(run)[f"synthetic.{fixed}"])
    assert not torch.equal(before[f"synthetic.{learn}"], values(run)[f"synthetic.{learn}"])


def test_small_inner_batches_use_every_pair_equally_often(places: Places) -> None:
    from engine.methods.bi_trajectory import inner_batches

    batches = inner_batches(10, 4, 5, stream(0, "batches"))
    assert [len(batch) for batch in batches] == [4] * 5
    assert torch.bincount(torch.cat(batches)).tolist() == [2] * 10


def test_encoding_once_gives_the_gradient_of_encoding_at_every_step(places: Places) -> None:
    run = start("bi_trajectory", places, train="frozen", inner_batch=2, inner_steps=2)
    run.state.zero_grad()
    run.method.backward(run.state, run.sources, stream(5, "step"))
    synthetic, student = run.state.synthetic, run.sources.student
    ours = synthetic.images.grad.clone()
    assert (ours.flatten(1).abs().amax(1) > 0).sum() == 4  # two steps of two of six pairs
    from dataclasses import replace

    from torch import nn

    whole = replace(student.image, frozen=nn.Identity())
    encoder = student.image.frozen

    class Encoding(type(whole)):
        def apply(self, params, prepared):
            return super().apply(params, encoder(prepared))

    again = Encoding(**{name: getattr(whole, name) for name in whole.__dataclass_fields__})
    run.state.zero_grad()
    run.method.backward(run.state, replace(run.sources, student=replace(student, image=again)), stream(5, "step"))
    torch.testing.assert_close(ours, synthetic.images.grad, rtol=1e-4, atol=1e-7)
