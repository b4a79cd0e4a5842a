"""A trial computes what the library computes, and goes on where it had stopped."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import tune

from engine import build
from engine.cluster.search.trial import BEST_SET, DistillTrial
from engine.config.load import assign
from engine.experts.store import ExpertStore
from engine.synthetic.set import load_set
from tests.finished import Finished
from tests.tiny import EVERY, STEPS

ANOTHER = {"method.inner_lr.image": 0.5, "method.inner_lr.text": 0.2}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Compute with as many threads as the trials of the tiny study."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def trial(finished: Finished, config: dict[str, Any] | None = None) -> Any:
    """Return a trial of the finished study in this process."""
    kind = tune.with_parameters(DistillTrial, specification=finished.job.specification, cpus=2.0)
    return kind(config=config or {})


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
    return {key: value for key, value in result.items() if "seconds" not in key and key != "peak_memory"}


def test_a_resumed_trial_goes_on_bitwise(finished: Finished, tmp_path: Path) -> None:
    straight, stopped = trial(finished, ANOTHER), trial(finished, ANOTHER)
    results = [straight.step() for _ in range(STEPS // EVERY)]
    first = stopped.step()
    stopped.save_checkpoint(str(tmp_path))
    resumed = trial(finished, ANOTHER)
    resumed.load_checkpoint(str(tmp_path))
    rest = [resumed.step() for _ in range(STEPS // EVERY - 1)]
    assert same(state(straight), state(resumed))
    for ours, theirs in zip(results, [first, *rest], strict=True):
        assert without_costs(ours) == without_costs(theirs)
    assert [result["done"] for result in results] == [False, False, True]


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "synthetic_set.safetensors", "progress.json"])
def test_a_trial_with_a_damaged_checkpoint_begins_again(
    finished: Finished, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    straight, stopped = trial(finished, ANOTHER), trial(finished, ANOTHER)
    straight.step()
    stopped.step()
    stopped.save_checkpoint(str(tmp_path))
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:9])
    resumed = trial(finished, ANOTHER)
    resumed.load_checkpoint(str(tmp_path))
    assert name in capsys.readouterr().out
    assert resumed.run.step == 0
    resumed.step()
    assert same(state(straight), state(resumed))


def test_a_process_that_had_another_trial_is_as_good_as_new(finished: Finished) -> None:
    used, new = trial(finished), trial(finished, ANOTHER)
    used.step()
    assert used.reset_config(ANOTHER)
    used.step()
    new.step()
    assert same(state(used), state(new))


def test_a_loss_that_is_not_finite_ends_the_trial(finished: Finished, tmp_path: Path) -> None:
    diverging = trial(finished, {"method.inner_lr.image": 1e30})
    result = diverging.step()
    assert result["done"]
    assert not result["refused"]
    assert "method bi_trajectory: the loss of outer step 0 is not finite" in result["failure"]
    diverging.save_checkpoint(str(tmp_path))


def test_an_error_of_the_user_ends_the_trial(finished: Finished, tmp_path: Path) -> None:
    refused = trial(finished, {"method.num_pairs": 100_000})
    result = refused.step()
    assert result["done"]
    assert result["refused"]
    assert "100000 pairs" in result["failure"]
    refused.save_checkpoint(str(tmp_path))
    refused.load_checkpoint(str(tmp_path))
