"""The matching loss against numbers worked out by hand."""

import pytest
import torch

from engine.losses.matching import matching_losses, squared_distance
from engine.tensors import Params


def params(image: list[float], text: list[float]) -> Params:
    return {"image.a": torch.tensor(image[:1]), "image.b": torch.tensor([image[1:]]), "text.a": torch.tensor(text)}


START = params([0.0, 0.0, 0.0], [1.0, 1.0])
TARGET = params([1.0, 2.0, 2.0], [1.0, 3.0])


def test_each_modality_is_relative_to_how_far_its_own_expert_went() -> None:
    # The experts went 1 + 4 + 4 = 9 and 4; the student misses 4 + 0 + 1 = 5 and 9 + 1 = 10.
    losses = matching_losses(params([3.0, 2.0, 1.0], [4.0, 2.0]), START, TARGET)
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx({"image": 5 / 9, "text": 10 / 4})


def test_is_one_at_the_start_and_zero_at_the_target() -> None:
    assert [loss.item() for loss in matching_losses(START, START, TARGET).values()] == [1.0, 1.0]
    assert [loss.item() for loss in matching_losses(TARGET, START, TARGET).values()] == [0.0, 0.0]


def test_the_gradient_is_twice_the_miss_over_the_way() -> None:
    end = {name: value.clone().requires_grad_() for name, value in params([3.0, 2.0, 1.0], [4.0, 2.0]).items()}
    sum(matching_losses(end, START, TARGET).values()).backward()
    torch.testing.assert_close(end["image.b"].grad, torch.tensor([[0.0, -2.0 / 9]]))
    torch.testing.assert_close(end["text.a"].grad, torch.tensor([6.0 / 4, -2.0 / 4]))


def test_a_modality_whose_expert_did_not_move_counts_nothing() -> None:
    still = params([1.0, 2.0, 2.0], [1.0, 1.0])
    end = {name: value.clone().requires_grad_() for name, value in params([3.0, 2.0, 1.0], [4.0, 2.0]).items()}
    losses = matching_losses(end, START, still)
    assert (losses["image"].item(), losses["text"].item()) == (pytest.approx(5 / 9), 0.0)
    sum(losses.values()).backward()
    assert end["text.a"].grad is not None
    assert torch.equal(end["text.a"].grad, torch.zeros(2))
    for distance in ("per_modality", "joint"):
        assert [loss.item() for loss in matching_losses(TARGET, START, START, distance=distance).values()] == [0, 0]


def test_a_diverged_expert_shows_in_the_loss() -> None:
    losses = matching_losses(TARGET, START, params([float("nan"), 2.0, 2.0], [1.0, 3.0]))
    assert losses["image"].isnan()
    assert losses["text"] == 0


def test_the_order_of_names_does_not_matter_but_their_set_does() -> None:
    backwards = dict(reversed(TARGET.items()))
    assert squared_distance(START, backwards).item() == 13
    with pytest.raises(AssertionError, match="different students"):
        squared_distance(START, {"image.a": torch.zeros(1)})
