"""A replayed gradient is that of each unroll, and only unrolls of one kind share a recording.

No graph can be recorded on a CPU. A recording is simulated here by what it does on a GPU: it computes the same function
of the same tensors again, and writes the results where the first ones are. ``tests/devices`` compares real ones.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from engine import build
from engine.io.paths import Paths
from engine.unroll import replay
from engine.unroll.steps import UnrollGradient
from tests.devices.studies import CPU, SCOPES, Bench, Row

LORS = "name: lors, num_pairs: 8, inner_steps: 3, inner_batch: 5"
OTHERS = {
    "bi_trajectory": "name: bi_trajectory, num_pairs: 8, inner_steps: 2",
    "asynchronous": "name: bi_trajectory, num_pairs: 8, inner_steps: 2, text_max_start: 2, distance: joint",
    "kl": "name: lors, num_pairs: 8, inner_steps: 2, loss: kl, similarity: {kind: full}, shortcut: 3, max_start: 1",
}
ROWS = {
    **{f"lors, {gradient}": f"{LORS}, gradient: {gradient}" for gradient in ("exact", "stored", "truncated")},
    **OTHERS,
}
STEPS = 4


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("replay")
    made = Bench(Paths(data=folder / "data", weights=folder / "weights", cache=folder / "cache"))
    made.prepare()
    return made


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Simulate recordings on the CPU, and return the list to which each replay adds the number of its recording."""
    counted, recordings = list[int](), list[int]()

    def capture(compute: Callable[[], UnrollGradient]) -> tuple[UnrollGradient, Callable[[], None]]:
        outputs, number = compute(), len(recordings)
        recordings.append(number)
        held: list[Tensor] = tree_leaves([outputs.losses, outputs.data, outputs.learning_rates])
        for value in held:
            value.fill_(torch.nan)  # a graph computes nothing while it is recorded

        def again() -> None:
            counted.append(number)
            with torch.enable_grad():
                found = compute()
            for value, other in zip(held, tree_leaves([found.losses, found.data, found.learning_rates]), strict=True):
                value.copy_(other)

        return outputs, again

    monkeypatch.setattr(replay, "GPUS", ("cpu",))
    monkeypatch.setattr(replay, "capture", capture)
    monkeypatch.setattr(replay, "_seen", [])
    monkeypatch.setattr(replay, "_recorded", [])
    monkeypatch.setattr(replay, "_refused", [])
    return counted


def state(bench: Bench, words: str, *, scope: str = "heads", steps: int = STEPS) -> dict[str, Tensor]:
    row = Row(words, SCOPES[scope], (f"method={{{words}}}",))
    run = build.distillation(bench.study(row), bench.setup(row, CPU), bench.experts(row))
    run.run(steps)
    return run.state.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("words", ROWS.values(), ids=ROWS)
def test_replays_change_no_bit(words: str, bench: Bench, replays: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    found = state(bench, words)
    assert replays == [0] * (STEPS - 1)  # the first step runs as usual, and the second one both ways
    monkeypatch.setattr(replay, "GPUS", ())
    assert same(state(bench, words), found)
    assert len(replays) == STEPS - 1


def test_a_second_run_replays_what_the_first_one_recorded(bench: Bench, replays: list[int]) -> None:
    first = state(bench, ROWS["lors, exact"])
    assert same(first, state(bench, ROWS["lors, exact"]))
    assert replays == [0] * (2 * STEPS - 1)


def test_unrolls_of_another_kind_have_a_recording_of_their_own(bench: Bench, replays: list[int]) -> None:
    for words in ROWS.values():
        state(bench, words, steps=3)
    assert replays == [number for number in range(len(ROWS)) for _ in range(2)]
    assert len(replay._recorded) == replay.MOST
    state(bench, next(iter(ROWS.values())), steps=2)  # gone, and seen too long ago
    assert replays[len(ROWS) * 2 :] == [len(ROWS)]


@pytest.mark.parametrize(
    ("words", "scope"),
    [
        (LORS, "full"),
        ("name: repblend, num_pairs: 8, inner_steps: 2, inner_batch: 4", "heads"),  # mixed pairs
        ("name: bi_trajectory, num_pairs: 8, inner_steps: 2, real_weight: 0.5, real_batch: 16", "heads"),
        ("name: through_training, num_pairs: 8, inner_steps: 2, inner_batch: 4", "heads"),
    ],
)
def test_other_unrolls_are_not_recorded(words: str, scope: str, bench: Bench, replays: list[int]) -> None:
    state(bench, words, scope=scope, steps=3)
    assert not replays


def test_results_are_not_written_to_by_the_next_replay(
    bench: Bench, replays: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Row("lors", SCOPES["heads"], (f"method={{{LORS}}}",))
    run = build.distillation(bench.study(row), bench.setup(row, CPU), bench.experts(row))
    found, plain = list[UnrollGradient](), replay._replay

    def kept(recorded: replay.Recorded, tensors: list[Tensor]) -> UnrollGradient:
        found.append(plain(recorded, tensors))
        return found[-1]

    monkeypatch.setattr(replay, "_replay", kept)
    run.run(3)
    assert len(found) == len(replays) == 2
    assert not torch.equal(found[0].data["images"], found[1].data["images"])


@pytest.mark.parametrize("fault", ["raises", "other bits"])
def test_what_cannot_be_recorded_is_launched_as_usual(
    fault: str, bench: Bench, replays: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wanted, plain = state(bench, ROWS["kl"]), replay.capture
    for name in ("_seen", "_recorded"):
        monkeypatch.setattr(replay, name, [])
    replays.clear()

    def broken(compute: Callable[[], UnrollGradient]) -> tuple[UnrollGradient, Callable[[], None]]:
        if fault == "raises":
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        outputs, again = plain(compute)

        def wrong() -> None:
            again()
            outputs.data["texts"][0, 0] += 1e-6

        return outputs, wrong

    monkeypatch.setattr(replay, "capture", broken)
    assert same(wanted, state(bench, ROWS["kl"]))
    assert len(replays) == (fault == "other bits")
    assert not replay._recorded
    (message,) = [record.getMessage() for record in caplog.records]
    reasons = {"raises": "operation not permitted when stream is capturing", "other bits": "a replay has other bits"}
    assert message == f"An outer step is not recorded as a CUDA graph: {reasons[fault]}"
