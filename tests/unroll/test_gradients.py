"""The heart: each gradient mode against the others, against finite differences and against hand-made steps."""

from dataclasses import replace

import pytest
import torch

from engine.io.paths import Paths
from engine.unroll import GRADIENTS, exact, stored, truncated
from engine.unroll.steps import leaves, rollout, step_gradient, updated
from tests.toys import tiny_unroll


def last(path) -> dict:
    *_, end = path
    return end


def flat(result) -> torch.Tensor:
    return torch.cat(
        [*(v.flatten() for v in result.data.values()), *(v.flatten() for v in result.learning_rates.values())]
    )


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_exact_equals_stored_in_float64(paths: Paths, steps: int) -> None:
    unroll = tiny_unroll(paths, steps=steps)
    ours, reference = exact.gradient(unroll), stored.gradient(unroll)
    assert flat(reference).abs().max() > 1e-4
    torch.testing.assert_close(flat(ours), flat(reference), rtol=1e-9, atol=1e-12)
    for modality, loss in reference.losses.items():
        torch.testing.assert_close(ours.losses[modality], loss, rtol=1e-12, atol=0)


def test_exact_is_the_derivative_by_finite_differences(paths: Paths) -> None:
    unroll = tiny_unroll(paths, steps=3)
    result = exact.gradient(unroll)

    def total(name: str, index: tuple[int, ...], shift: float) -> float:
        data = {key: value.clone() for key, value in unroll.data.items()}
        learning_rates = {key: value.clone() for key, value in unroll.learning_rates.items()}
        (data | learning_rates)[name][index] += shift
        moved = replace(unroll, data=data, learning_rates=learning_rates)
        return sum(loss.item() for loss in moved.outer_loss(last(rollout(moved))).values())

    places_to_try = [("images", (0, 1, 3, 4)), ("images", (4, 2, 7, 0)), ("texts", (2, 3)), ("image", ()), ("text", ())]
    for name, index in places_to_try:
        slope = (total(name, index, 1e-6) - total(name, index, -1e-6)) / 2e-6
        assert (result.data | result.learning_rates)[name][index].item() == pytest.approx(slope, rel=1e-5, abs=1e-9)


def test_one_inner_step_is_plain_sgd_on_the_inner_loss(paths: Paths) -> None:
    unroll = tiny_unroll(paths, steps=1)
    params = leaves(unroll.start)
    unroll.inner_loss(params, unroll.data, unroll.batches[0]).backward()
    end = last(rollout(unroll))
    for name, value in params.items():
        rate = 0.3 if name.startswith("image.") else 0.2
        torch.testing.assert_close(end[name] - unroll.start[name], -rate * value.grad, rtol=1e-12, atol=1e-15)


def test_a_modality_whose_expert_did_not_move_counts_nothing(paths: Paths) -> None:
    unroll = tiny_unroll(paths, steps=2, still="text.")
    for mode in (exact, stored):
        result = mode.gradient(unroll)
        assert result.losses["text"] == 0 < result.losses["image"]
        assert result.learning_rates["text"].isfinite()
    torch.testing.assert_close(flat(exact.gradient(unroll)), flat(stored.gradient(unroll)), rtol=1e-9, atol=1e-12)


def test_nothing_that_was_given_is_written_to(paths: Paths) -> None:
    unroll = tiny_unroll(paths, steps=3)
    before = [value.clone() for group in (unroll.start, unroll.data) for value in group.values()]
    exact.gradient(unroll)
    after = [value for group in (unroll.start, unroll.data) for value in group.values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", sorted(GRADIENTS))
def test_every_mode_gives_every_gradient_its_shape(paths: Paths, name: str) -> None:
    unroll = tiny_unroll(paths, steps=2, dtype=torch.float32)
    result = GRADIENTS[name](unroll)
    assert {k: v.shape for k, v in result.data.items()} == {k: v.shape for k, v in unroll.data.items()}
    assert {k: v.shape for k, v in result.learning_rates.items()} == {
        k: v.shape for k, v in unroll.learning_rates.items()
    }
    assert all(v.isfinite().all() and v.abs().max() > 0 for v in (result.data | result.learning_rates).values())


def test_an_update_moves_each_modality_at_its_own_rate(paths: Paths) -> None:
    unroll = tiny_unroll(paths, steps=1)
    params = leaves(unroll.start)
    gradients = step_gradient(unroll, params, unroll.data, unroll.batches[0], create_graph=False)
    still = updated(unroll.start, gradients, {"image": torch.tensor(0.0), "text": torch.tensor(1.0)})
    assert all(
        torch.equal(still[n], v) == n.startswith("image.") for n, v in unroll.start.items() if gradients[n].any()
    )


def test_truncated_is_autograd_through_steps_whose_parameters_are_constants(paths: Paths) -> None:
    unroll = tiny_unroll(paths, steps=3)
    data, learning_rates = leaves(unroll.data), leaves(unroll.learning_rates)
    end = {name: value.detach() for name, value in unroll.start.items()}
    for params, batch in zip(rollout(unroll), unroll.batches, strict=False):
        gradients = step_gradient(unroll, leaves(params), data, batch, create_graph=True)
        end = updated(end, gradients, learning_rates)
    wanted = [*data.values(), *learning_rates.values()]
    reference = torch.autograd.grad(sum(unroll.outer_loss(end).values()), wanted)
    ours = truncated.gradient(unroll)
    torch.testing.assert_close(flat(ours), torch.cat([value.flatten() for value in reference]), rtol=1e-9, atol=1e-12)


def test_truncated_is_not_the_gradient_but_for_a_single_step(paths: Paths) -> None:
    one, three = tiny_unroll(paths, steps=1), tiny_unroll(paths, steps=3)
    torch.testing.assert_close(flat(truncated.gradient(one)), flat(exact.gradient(one)), rtol=1e-9, atol=1e-12)
    away = flat(truncated.gradient(three)) - flat(exact.gradient(three))
    assert away.norm() > 0.01 * flat(exact.gradient(three)).norm()
