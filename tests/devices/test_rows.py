"""Every row of outer steps, experts and scores is on the GPU what it is on the CPU, and resumes bit by bit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from engine import build
from engine.config import components
from engine.coresets import load_warmup, save_warmup
from engine.distill import Distillation
from engine.evaluation.full_data import FullDataRecipe, train_on_everything
from engine.evaluation.protocol import evaluate, prepare_set, real_set
from engine.evaluation.student import train_student
from engine.losses import contrastive, matching
from engine.recipes import StudentRecipe
from engine.rewording import reworded
from engine.rng import named_generator
from engine.synthetic.set import load_set
from engine.tensors import MODALITIES, Params
from tests.devices.conftest import DEVICE, other_device
from tests.devices.fake_gpu import DeviceMismatch, Ledger, fake_gpu
from tests.devices.studies import BERT, CONVNET, CPU, DEFAULT_STUDENTS, SCOPES, TFIDF, Bench, Row, steps

ROWS = [row for row in steps() if row.usual or DEVICE]
CLOSE = 2e-2 if DEVICE == "cuda" else 1e-5
"""Greatest relative distance of the state after two steps. The simulated GPU adds some second derivatives of timm's
encoders in another order, and all else is equal; on a real one Adam turns a rounding of a gradient near zero into a
step of another sign."""


def distance(wanted: Tensor, found: Tensor) -> float:
    """Return the norm of the difference relative to that of ``wanted``.

    A norm below 1e-4 counts as that: such a tensor holds nothing but roundings, as the biases of attention's keys do.
    """
    wanted, found = wanted.detach().cpu().double(), found.detach().cpu().double()
    return float((wanted - found).norm() / wanted.norm().clamp(min=1e-4))


def state(run: Distillation) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in run.state.state_dict().items()}


def two_steps(bench: Bench, row: Row, device: torch.device, ledger: Ledger, folder: Path) -> dict[str, Tensor]:
    """Take two outer steps, the second also from a checkpoint; the ledger holds that one alone."""
    study, setup, experts = bench.study(row), bench.setup(row, device), bench.experts(row)
    run, resumed = (build.distillation(study, setup, experts) for _ in range(2))
    run.run(1)
    run.save(folder / "checkpoint.safetensors")
    run.run(1)
    resumed.load(folder / "checkpoint.safetensors")
    ledger.clear()
    resumed.run(1)
    found, again = state(run), state(resumed)
    assert [name for name in found if not torch.equal(found[name], again[name])] == []
    return found


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_outer_steps_are_those_of_the_cpu_and_resume(row: Row, bench: Bench, tmp_path: Path) -> None:
    wanted = two_steps(bench, row, CPU, Ledger(), tmp_path)
    with other_device() as (device, ledger):
        found = two_steps(bench, row, device, ledger, tmp_path)
    assert {name: far for name in wanted if not (far := distance(wanted[name], found[name])) <= CLOSE} == {}
    assert all(value.isfinite().all() for value in found.values())
    assert not ledger.fused
    assert not (ledger.unrepeatable and row.name in DEFAULT_STUDENTS)


@pytest.mark.parametrize("row", [row for row in ROWS if row.student == SCOPES["heads"]], ids=lambda row: row.name)
def test_the_layout_of_a_cpu_changes_gradients_by_roundings_alone(row: Row, bench: Bench) -> None:
    study, experts, own = bench.study(row), bench.experts(row), build.build_setup(bench.study(row), bench.paths, "cpu")
    runs = [build.distillation(study, setup, experts) for setup in (bench.setup(row, CPU), own)]
    for run in runs:
        run.run(1)
    images = [run.state.synthetic.images.grad for run in runs]
    assert distance(*images) < (1e-3 if study.precision == "bf16" else 1e-5)


BF16 = [row for row in ROWS if "precision=bf16" in row.rest]


@pytest.mark.parametrize("row", BF16, ids=[row.name for row in BF16])
def test_rows_in_bf16_are_not_those_in_fp32(row: Row, bench: Bench) -> None:
    both = [row, replace(row, rest=("precision=fp32", *row.rest[1:]))]
    few, full = (build.distillation(bench.study(one), bench.setup(one, CPU), bench.experts(row)) for one in both)
    few.run(1)
    full.run(1)
    assert 1e-4 < distance(state(full)["synthetic.images"], state(few)["synthetic.images"]) < 0.1


def of_scope(scope: str) -> Row:
    return Row(scope, SCOPES[scope], ("method={name: lors, num_pairs: 8, inner_steps: 2, inner_batch: 4}",))


@pytest.mark.parametrize("scope", SCOPES if DEVICE else ["both full"])
def test_experts_are_those_of_the_cpu(scope: str, bench: Bench) -> None:
    row = of_scope(scope)
    wanted = dict(bench.expert(row, bench.setup(row, CPU), number=0, epochs=2))[2]
    with other_device() as (device, _):
        found = dict(bench.expert(row, bench.setup(row, device), number=0, epochs=2))[2]
    assert {name: far for name in wanted if not (far := distance(wanted[name], found[name])) <= CLOSE} == {}


def scores(bench: Bench, row: Row, device: torch.device, folder: Path) -> dict[str, float]:
    """Score a set from its file, all pairs, and coresets that are chosen by a student of all pairs."""
    study, setup, experts = bench.study(row), bench.setup(row, device), bench.experts(row)
    build.distillation(study, setup, experts).synthetic.save(folder / "set.safetensors")
    kept = load_set(folder / "set.safetensors")
    recipe = FullDataRecipe(training=build.expert_recipe(study), max_epochs=2, feature_epoch=1, forgetting_epochs=1)
    full = train_on_everything(setup.student, setup.pairs, seed=0, name="full/0", recipe=recipe)
    assert full.warmup is not None
    save_warmup(folder / "warmup.safetensors", full.warmup)
    sets = {"set": prepare_set(setup.student, kept, setup.device)}
    for name in components.names("coreset"):
        warmup, generator = load_warmup(folder / "warmup.safetensors"), named_generator(0, name)
        chosen = components.bind("coreset", name, {})(warmup, 6, generator)
        sets[name] = real_set(setup.student, setup.pairs["train"], chosen, setup.device)
    protocol, val, test = build.protocol(study), setup.pairs["val"], setup.pairs["test"]
    evaluated = {n: evaluate(setup.student, s, protocol, seed=0, val=val, test=test) for n, s in sets.items()}
    return {"full": full.val["mean_recall"], **{n: found.val[0]["mean_recall"] for n, found in evaluated.items()}}


@pytest.mark.parametrize("scope", SCOPES if DEVICE else ["heads", "full"])
def test_scores_are_those_of_the_cpu(scope: str, bench: Bench, tmp_path: Path) -> None:
    wanted = scores(bench, of_scope(scope), CPU, tmp_path)
    with other_device() as (device, _):
        found = scores(bench, of_scope(scope), device, tmp_path)
    rank = 100 / 12 if DEVICE == "cuda" else 0.0  # of 12 images, one may take another rank
    assert found == pytest.approx(wanted, abs=rank)


@pytest.mark.skipif(DEVICE == "cuda", reason="a real GPU has no ledger")
def test_a_student_is_trained_without_a_wait_and_copies_once_an_epoch(bench: Bench) -> None:
    row, epochs = of_scope("heads"), 3
    with fake_gpu() as (device, ledger):
        setup = bench.setup(row, device)
        training = real_set(setup.student, setup.pairs["train"], torch.arange(12), device)
        params = setup.student.init_params(named_generator(0, "init"))
        ledger.clear()
        path = train_student(
            setup.student,
            params,
            training,
            learning_rates=dict.fromkeys(MODALITIES, 0.1),
            recipe=StudentRecipe(epochs=epochs, batch_size=4),
            generator=named_generator(0, "order"),
        )
        list(path)
    assert not ledger.waits
    assert ledger.copies.total() == epochs, ledger.copies


@pytest.mark.parametrize(("own", "other"), [(BERT % "full", TFIDF), (TFIDF, BERT % "full")])
def test_texts_are_reworded_as_on_the_cpu(own: str, other: str, bench: Bench) -> None:
    learned, read = (replace(of_scope("full"), student=(CONVNET % "full", text)) for text in (own, other))
    synthetic = build.distillation(bench.study(learned), bench.setup(learned, CPU), bench.experts(learned)).synthetic
    wanted = reworded(bench.study(read), bench.setup(read, CPU), bench.paths, synthetic)
    assert wanted.metadata["reworded"]
    with other_device() as (device, _):
        found = reworded(bench.study(read), bench.setup(read, device), bench.paths, synthetic)
    assert torch.equal(wanted.texts, found.texts)


MOST = {
    "full": (2600, 6, 38),
    "both full": (5400, 14, 104),
}
"""Launches, waits and copies of an ``exact`` outer step of LoRS with two inner ones, when this was written."""


@pytest.mark.skipif(DEVICE == "cuda", reason="a real GPU has no ledger")
@pytest.mark.parametrize("scope", MOST)
def test_an_exact_step_launches_waits_and_copies_no_more_than_it_did(scope: str, bench: Bench) -> None:
    options = "{name: lors, num_pairs: 8, inner_steps: 2, inner_batch: 4, gradient: exact}"
    row = Row(scope, SCOPES[scope], (f"method={options}",))
    with fake_gpu() as (device, ledger):
        run = build.distillation(bench.study(row), bench.setup(row, device), bench.experts(row))
        run.run(1)
        ledger.clear()
        run.run(1)
    counted = ledger.launches, ledger.waits.total(), ledger.copies.total()
    sites = f"{ledger.waits.most_common()}\n{ledger.copies.most_common()}"
    assert all(found <= most for found, most in zip(counted, MOST[scope], strict=True)), f"{counted}\n{sites}"


def targets_of_the_cpu(images: Tensor, texts: Tensor, *, temperature: float) -> Tensor:
    logits = contrastive.similarities(images, texts) / temperature
    return functional.cross_entropy(logits, torch.arange(len(logits)))


def snapshots_of_the_cpu(end: Params, start: Params, target: Params, **_: str) -> dict[str, Tensor]:
    return {"image": matching.squared_distance(end, {name: value.cpu() for name, value in target.items()})}


@pytest.mark.parametrize(
    ("module", "name", "fault"),
    [
        ("engine.models.two_tower", "contrastive_loss", lambda a, b, **_: targets_of_the_cpu(a, b, temperature=0.1)),
        ("engine.unroll.student", "matching_losses", snapshots_of_the_cpu),
    ],
)
@pytest.mark.skipif(DEVICE == "cuda", reason="seeded for the simulated GPU")
def test_a_seeded_fault_is_found(
    module: str, name: str, fault: object, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Row("fault", SCOPES["full"], ("method={name: bi_trajectory, num_pairs: 8, inner_steps: 2}",))
    monkeypatch.setattr(f"{module}.{name}", fault)
    build.distillation(bench.study(row), bench.setup(row, CPU), bench.experts(row)).run(1)
    with fake_gpu() as (device, _), pytest.raises(DeviceMismatch, match="meets one of the GPU"):
        build.distillation(bench.study(row), bench.setup(row, device), bench.experts(row)).run(1)
