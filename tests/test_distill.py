"""The outer optimiser, and checkpoints that belong to one run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from engine.distill import Distillation, NonFiniteLossError, outer_optimiser
from engine.experts.trajectory import MemorySource
from engine.io.paths import Paths
from engine.methods import Learn, Sources, State, learned_groups
from engine.rng import named_generator
from engine.synthetic.initialisation import Init
from engine.synthetic.set import SyntheticSet
from tests.toys import tiny_pairs, tiny_student

RATES = {"image": 0.5, "text": 0.25, "log": 1.0}


def groups() -> list[dict]:
    image, text = (nn.Parameter(torch.tensor(value)) for value in (1.0, 2.0))
    return [{"name": "image", "params": [image]}, {"name": "text", "params": [text]}]


def moves_of(optimiser: torch.optim.Optimizer, gradients: list[float]) -> list[list[float]]:
    """Return how far each parameter moved in each step under the same gradient."""
    parameters = [value for group in optimiser.param_groups for value in group["params"]]
    moves = []
    for gradient in gradients:
        before = [value.item() for value in parameters]
        for value in parameters:
            value.grad = torch.tensor(gradient)
        optimiser.step()
        moves.append([value.item() - old for value, old in zip(parameters, before, strict=True)])
    return moves


def test_sgd_moves_by_rate_times_velocity() -> None:
    moves = moves_of(outer_optimiser(groups(), RATES, name="sgd", momentum=0.5), [0.25, 1.0])
    # Velocities 0.25 and 0.5 * 0.25 + 1 = 1.125.
    assert moves == [[-0.125, -0.0625], [-0.5625, -0.28125]]


def test_adam_moves_by_the_rate_whatever_the_gradient() -> None:
    for gradient in (1e-3, 1e3):
        (move,) = moves_of(outer_optimiser(groups(), RATES), [gradient])
        assert move == pytest.approx([-0.5, -0.25], rel=1e-4)


def test_the_groups_given_are_not_changed() -> None:
    given = groups()
    outer_optimiser(given, RATES)
    assert all(set(entry) == {"name", "params"} for entry in given)


def test_a_group_without_a_rate_is_named() -> None:
    with pytest.raises(ValueError, match=r"^optimiser\.text_lr: the method learns 'text', so it needs a rate\.$"):
        outer_optimiser(groups(), {"image": 0.1})


@dataclass(frozen=True)
class Shrink:
    """A method that shrinks its images."""

    needs: ClassVar[frozenset[str]] = frozenset()

    num_pairs: int = 2
    factor: float = 1.0
    init: Init = field(default_factory=Init)

    def epochs(self) -> range:
        return range(1)

    def initial_state(self, images: Any, texts: Any, sources: Any, generator: torch.Generator) -> State:
        return State(SyntheticSet(images, texts, {"image": 0.1, "text": 0.1}))

    def param_groups(self, state: State) -> list[dict[str, Any]]:
        return learned_groups(state.synthetic, Learn(texts=False, learning_rates=False))

    def backward(self, state: State, sources: Any, generator: torch.Generator) -> dict[str, float]:
        loss = self.factor * state.synthetic.images.square().sum()
        loss.backward()
        return {"loss": loss.item()}


class Other(Shrink):
    """The same in another file."""

    __module__ = "engine.methods.other"


def run_of(method: Shrink | None = None, *, seed: int = 1, ema: float | None = None, note: str = "a") -> Distillation:
    method, student = method or Shrink(), tiny_student(Paths(data=Path(), weights=Path(), cache=Path()))
    sources = Sources(student, MemorySource([]), tiny_pairs(student))
    state = method.initial_state(torch.ones(2, 3, 4, 4), torch.ones(2, 3), sources, named_generator(0, "init"))
    state.synthetic.metadata["note"] = note
    optimiser = outer_optimiser(method.param_groups(state), {"image": 0.1})
    return Distillation(method, state, optimiser, sources, seed=seed, ema=ema)


def saved(path: Path, **changes: str) -> Path:
    """Save a run after three steps, with some entries of its header changed."""
    run = run_of()
    run.run(3)
    run.save(path)
    with safe_open(path, "pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata={**header, **changes})
    return path


def test_a_checkpoint_of_the_same_run_is_continued(tmp_path: Path) -> None:
    again, whole = run_of(), run_of()
    again.load(saved(tmp_path / "checkpoint"))
    whole.run(5)
    again.run(2)
    assert again.step == 5
    assert torch.equal(again.synthetic.images, whole.synthetic.images)


def test_rates_fall_over_the_steps_of_the_budget_and_go_on_so_from_a_checkpoint(tmp_path: Path) -> None:
    plain, whole, first, again = (run_of() for _ in range(4))
    for run in (whole, first, again):
        run.schedule, run.steps = "cosine", 4
    taken = []
    for _ in range(4):
        whole.run(1)
        taken.append(whole.optimiser.param_groups[0]["lr"])
    assert taken == pytest.approx([0.1 * factor for factor in (1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5)])
    first.run(2)
    first.save(tmp_path / "checkpoint")
    again.load(tmp_path / "checkpoint")
    again.run(2)
    assert torch.equal(again.synthetic.images, whole.synthetic.images)
    plain.run(4)
    assert not torch.equal(plain.synthetic.images, whole.synthetic.images)
    before = whole.synthetic.images.clone()
    whole.run(1)  # beyond the budget rates stay 0
    assert torch.equal(whole.synthetic.images, before)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"seed": 2}, "with seed 2, found 1"),
        ({"method": Other()}, "with method other, found test_distill"),
        ({"method": Shrink(factor=2.0)}, r"with method\.factor 2\.0, found 1\.0"),
        ({"ema": 0.5}, r"with ema 0\.5, found None"),
        ({"note": "b"}, 'with metadata {"note": "b"}, found {"note": "a"}'),
    ],
    ids=["seed", "method", "option", "average", "metadata"],
)
def test_a_checkpoint_of_another_run_is_refused(options: dict[str, Any], found: str, tmp_path: Path) -> None:
    run = run_of(**options)
    path, before = saved(tmp_path / "checkpoint"), run.synthetic.images.clone()
    with pytest.raises(ValueError, match=rf"checkpoint: expected a checkpoint {found}\.$"):
        run.load(path)
    assert run.step == 0
    assert torch.equal(run.synthetic.images, before)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"format_version": "1"}, "with format_version 2, found 1"),
        ({"format_version": "3"}, "with format_version 2, found 3"),
        ({"step": "-1"}, "with a step, found '-1'"),
        ({"step": ""}, "with a step, found ''"),
    ],
)
def test_a_checkpoint_of_another_format_is_refused(changes: dict[str, str], found: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "checkpoint", **changes)
    with pytest.raises(ValueError, match=rf"checkpoint: expected a checkpoint {found}\.$"):
        run_of().load(path)


def changed(path: Path, **changes: torch.Tensor | None) -> Path:
    """Save a run after three steps with some tensors of its checkpoint changed, or left out where None."""
    tensors = {**load_file(saved(path)), **{name.replace("__", "."): value for name, value in changes.items()}}
    with safe_open(path, "pt") as file:
        header = file.metadata()
    save_file({name: value for name, value in tensors.items() if value is not None}, path, metadata=header)
    return path


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"optimiser__x__step": torch.ones(())}, r"only the file has optimiser\.x\.step"),
        ({"optimiser__0": torch.ones(())}, r"only the file has optimiser\.0"),
        ({"optimiser__7__step": torch.ones(())}, r"only the file has optimiser\.7\.step"),
        ({"optimiser__0__exp_avg": None}, r"only the run has optimiser\.0\.exp_avg"),
        (
            {"optimiser__0__exp_avg": torch.ones(2)},
            r"optimiser\.0\.exp_avg is \[2\] of torch\.float32, expected \[2, 3, 4",
        ),
        (
            {"state__synthetic__texts": torch.ones(2, 3).half()},
            r"state\.synthetic\.texts is \[2, 3\] of torch\.float16, e",
        ),
        (
            {"state__synthetic__images": torch.full((2, 3, 4, 4), torch.nan)},
            r"images\[0, 0, 0, 0\] is nan, expected fin",
        ),
        ({"optimiser__0__exp_avg": torch.full((2, 3, 4, 4), torch.nan)}, r"exp_avg\[0, 0, 0, 0\] is nan, expected fin"),
        ({"other": torch.ones(1)}, "only the file has other"),
    ],
    ids=["index", "no entry", "later index", "absent", "shape", "dtype", "pixel", "moment", "other"],
)
def test_a_checkpoint_of_other_tensors_changes_nothing(
    changes: dict[str, torch.Tensor | None], found: str, tmp_path: Path
) -> None:
    run = run_of()
    before = {name: value.clone() for name, value in run.state.state_dict().items()}
    path = changed(tmp_path / "checkpoint", **changes)
    with pytest.raises(ValueError, match=rf"checkpoint: .*{found}"):
        run.load(path)
    assert (run.step, run.optimiser.state_dict()["state"]) == (0, {})
    assert all(torch.equal(value, before[name]) for name, value in run.state.state_dict().items())


def test_a_set_that_is_not_finite_ends_a_run() -> None:
    run = run_of()
    run.check()
    nn.init.constant_(run.synthetic.texts, torch.nan)
    with pytest.raises(
        NonFiniteLossError, match=r"after outer step 0, texts\[0, 0\] is nan, expected finite numbers\.$"
    ):
        run.check()
