"""A trial computes what the library computes, and goes on where it had stopped."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import tune

from engine import build, peak_memory
from engine import initial_pairs as initial
from engine.cluster.search.trial import DistillTrial
from engine.config.load import assign
from engine.experts.store import ExpertStore
from engine.initial_pairs import initial_pairs
from engine.results.history import BEST_SET, FRAMES, HISTORY, read_history
from engine.synthetic import initialisation
from engine.synthetic.set import load_set
from engine.tracking.time_lapse import frames
from tests.finished import Finished
from tests.tiny import EVERY, STEPS

ANOTHER = {"method.inner_lr.image": 0.5, "method.inner_lr.text": 0.2}
KMEANS = {"image": "kmeans", "text": "kmeans"}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Compute with as many threads as the trials of the tiny study."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def trial(finished: Finished, folder: Path, config: dict[str, Any] | None = None) -> Any:
    """Return a trial of the finished study in this process; its best set goes below ``folder``."""
    kind = tune.with_parameters(DistillTrial, specification=finished.job.specification, folder=folder, cpus=2.0)
    return kind(config=config or {})


def best_set(one: Any) -> dict[str, torch.Tensor]:
    """Return all tensors of a trial's best set."""
    return dict(load_set(one.best_file).state_dict())


def state(one: Any) -> dict[str, torch.Tensor]:
    """Return all tensors of a trial's synthetic set."""
    return dict(one.run.state.synthetic.state_dict())


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Say whether two states agree bitwise."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_trial_is_a_distillation(finished: Finished) -> None:
    study, setup = finished.job.study, finished.job.specification.setup()
    direct = build.distillation(assign(study, {}), setup, ExpertStore(finished.job.specification.expert_folder()))
    direct.run(STEPS)
    found = load_set(finished.job.folder / "trials" / "trial_1" / BEST_SET)
    assert same(dict(found.state_dict()), dict(direct.state.synthetic.state_dict()))


def without_costs(result: dict) -> dict:
    kept = {key: value for key, value in result.items() if "seconds" not in key and key != "peak_memory"}
    return {**kept, "steps": [numbers for _, numbers in kept.pop("steps", [])]}


def test_a_resumed_trial_goes_on_bitwise(finished: Finished, tmp_path: Path) -> None:
    straight, stopped = trial(finished, tmp_path / "straight", ANOTHER), trial(finished, tmp_path, ANOTHER)
    results = [straight.step() for _ in range(STEPS // EVERY)]
    first = stopped.step()
    stopped.save_checkpoint(str(tmp_path))
    resumed = trial(finished, tmp_path, ANOTHER)
    resumed.load_checkpoint(str(tmp_path))
    rest = [resumed.step() for _ in range(STEPS // EVERY - 1)]
    assert same(state(straight), state(resumed))
    assert same(best_set(straight), best_set(resumed))
    for ours, theirs in zip(results, [first, *rest], strict=True):
        assert without_costs(ours) == without_costs(theirs)
    assert [result["done"] for result in results] == [False, False, True]
    whole, again = (read_history(one.best_file.parent / HISTORY) for one in (straight, resumed))
    assert [one["outer_step"] for one in whole.validations] == [EVERY, 2 * EVERY, STEPS]
    assert [*map(without_costs, whole.validations)] == [*map(without_costs, again.validations)]
    assert (whole.searched, whole.initial) == (ANOTHER, again.initial)
    assert (tmp_path / "initial" / again.initial).is_file()
    assert [step for step, _ in frames(resumed.best_file.parent / FRAMES)] == [0, EVERY, 2 * EVERY, STEPS]


@pytest.mark.parametrize("name", ["checkpoint.safetensors", BEST_SET, "progress.json"])
def test_a_trial_with_a_damaged_checkpoint_begins_again(
    finished: Finished, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    straight, stopped = trial(finished, tmp_path / "straight", ANOTHER), trial(finished, tmp_path, ANOTHER)
    straight.step()
    stopped.step()
    stopped.save_checkpoint(str(tmp_path))
    damaged = stopped.best_file if name == BEST_SET else tmp_path / name
    damaged.write_bytes(damaged.read_bytes()[:9])
    resumed = trial(finished, tmp_path, ANOTHER)
    resumed.load_checkpoint(str(tmp_path))
    assert name in capsys.readouterr().out
    assert resumed.run.step == 0
    resumed.step()
    assert same(state(straight), state(resumed))


def test_a_process_that_had_another_trial_is_as_good_as_new(finished: Finished, tmp_path: Path) -> None:
    used, new = trial(finished, tmp_path), trial(finished, tmp_path, ANOTHER)
    used.step()
    assert used.reset_config(ANOTHER)
    used.step()
    new.step()
    assert same(state(used), state(new))


def test_a_loss_that_is_not_finite_ends_the_trial(finished: Finished, tmp_path: Path) -> None:
    diverging = trial(finished, tmp_path, {"method.inner_lr.image": 1e30})
    result = diverging.step()
    assert result["done"]
    assert not result["refused"]
    assert "method bi_trajectory: the loss of outer step 0 is not finite" in result["failure"]
    assert result["diverged_at"] == 0
    assert "best" not in result
    assert read_history(diverging.best_file.parent / HISTORY).failure == result["failure"]
    diverging.save_checkpoint(str(tmp_path))


def test_an_error_of_the_user_ends_the_trial(finished: Finished, tmp_path: Path) -> None:
    refused = trial(finished, tmp_path, {"method.num_pairs": 100_000})
    result = refused.step()
    assert result["done"]
    assert result["refused"]
    assert "100000 pairs" in result["failure"]
    refused.save_checkpoint(str(tmp_path))
    refused.load_checkpoint(str(tmp_path))


def test_the_last_run_is_released_before_the_next_is_built(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trial(finished, tmp_path)
    one.step()
    held = [weakref.ref(one.run), weakref.ref(one.run.optimiser), weakref.ref(one.run.sources.experts)]
    held += [weakref.ref(one.run.state.synthetic), weakref.ref(one.run.synthetic)]
    alive: list[int] = []
    draw, make = build.initial_pairs, build.distillation

    def drawn(*given: Any) -> Any:
        alive.append(sum(ref() is not None for ref in held))
        return draw(*given)

    def made(*given: Any, **others: Any) -> Any:
        alive.append(sum(ref() is not None for ref in held))
        return make(*given, **others)

    monkeypatch.setattr(build, "initial_pairs", drawn)
    monkeypatch.setattr(build, "distillation", made)
    one.reset_config({**ANOTHER, "method.init": KMEANS})
    assert alive == [0, 0]


def test_equal_trials_draw_their_initial_pairs_once_and_a_restored_one_draws_none(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    draw = initialisation.central_pairs

    def counted(features: Any, caption_image: Any, num_pairs: int, generator: Any, **options: Any) -> torch.Tensor:
        drawn.append(num_pairs)
        return draw(features, caption_image, num_pairs, generator, **options)

    monkeypatch.setattr(initialisation, "central_pairs", counted)
    first = trial(finished, tmp_path, {"method.init": KMEANS})
    second = trial(finished, tmp_path, {**ANOTHER, "method.init": KMEANS})
    assert torch.equal(first.run.synthetic.images, second.run.synthetic.images)
    second.step()
    second.save_checkpoint(str(tmp_path))
    trial(finished, tmp_path, {**ANOTHER, "method.init": KMEANS}).load_checkpoint(str(tmp_path))
    assert drawn == [8]
    other = trial(finished, tmp_path, {"method.init": KMEANS, "method.num_pairs": 9})
    assert (drawn, len(other.run.synthetic)) == ([8, 9], 9)


def test_initial_pairs_that_were_read_are_those_that_were_drawn(finished: Finished, tmp_path: Path) -> None:
    specification = finished.job.specification
    study, setup, experts = specification.study, specification.setup(), ExpertStore(specification.expert_folder())
    drawn, read = (initial_pairs(study, setup, experts, tmp_path) for _ in range(2))
    [file] = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:20])
    again = initial_pairs(study, setup, experts, tmp_path)
    for images, texts, generator in (read, again):
        assert torch.equal(images, drawn[0])
        assert torch.equal(texts, drawn[1])
        assert torch.equal(generator.get_state(), drawn[2].get_state())


def test_initial_pairs_of_other_code_are_not_read(finished: Finished, tmp_path: Path, monkeypatch: Any) -> None:
    study = finished.job.study
    before = initial.initial_file(study, tmp_path)
    assert initial.initial_file(assign(study, {"seed": 1}), tmp_path) != before
    monkeypatch.setattr(initial, "code_digest", lambda: "other")
    assert initial.initial_file(study, tmp_path) != before


def test_checkpoints_hold_neither_the_initial_nor_the_best_set(finished: Finished, tmp_path: Path) -> None:
    one = trial(finished, tmp_path)
    one.step()
    (tmp_path / "checkpoint").mkdir()
    one.save_checkpoint(str(tmp_path / "checkpoint"))
    assert {file.name for file in (tmp_path / "checkpoint").iterdir()} == {"checkpoint.safetensors", "progress.json"}


def test_the_best_set_is_written_when_it_became_better(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trial(finished, tmp_path)
    one.study = assign(one.study, {"protocol.select_step": "val"})
    recalls = iter([20.0, 30.0, 25.0])
    monkeypatch.setattr(
        "engine.cluster.search.trial.validate", lambda *given, **named: {one.study.budget.metric: next(recalls)}
    )
    sets = []
    for _ in range(3):
        result = one.step()
        now = {name: value.clone() for name, value in state(one).items()}
        sets.append((one.best_file.stat().st_ino, best_set(one), now))
    assert result["best"] == 30
    assert same(sets[1][1], sets[1][2])
    assert same(sets[2][1], sets[1][2])
    assert sets[2][0] == sets[1][0] != sets[0][0]


def test_the_peak_of_a_run_is_not_that_of_the_run_before_it(finished: Finished, tmp_path: Path) -> None:
    one = trial(finished, tmp_path)
    if one.memory.bytes() is None:
        pytest.skip("this system does not measure the peak of a part of a process")
    large = torch.ones(2**28)  # 1 GiB
    before = one.step()["peak_memory"]
    assert before > large.nbytes
    del large
    assert one.reset_config({})
    assert one.step()["peak_memory"] < before - 2**29


def test_a_peak_that_cannot_be_measured_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak_memory, "_PROCESS", tmp_path / "absent")
    assert peak_memory.PeakMemory(torch.device("cpu")).bytes() is None
