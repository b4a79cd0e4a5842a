"""Zero-shot accuracies, against a loop that is written as the definition reads."""

import pytest
import torch
from torch import Tensor

from engine.evaluation.zero_shot import zero_shot
from engine.rng import named_generator
from tests.results.test_pair_map import flat_model

WIDTH = 3
PARAMS = {f"{side}.encoder.weight": torch.ones(()) for side in ("image", "text")}


def accuracy(images: Tensor, prompts: list[Tensor], belongs: Tensor, k: int) -> float:
    right = 0
    for image, own in zip(images, belongs, strict=True):
        scores = []
        for of_class in prompts:
            mean = sum(one / one.norm() for one in of_class)
            scores.append(float(torch.dot(image, mean) / image.norm() / mean.norm()))  # type: ignore[arg-type]
        order = sorted(range(len(prompts)), key=lambda c: -scores[c])
        right += any(own[c] for c in order[:k])
    return 100 * right / len(images)


def test_an_image_is_of_the_class_whose_prompts_are_nearest() -> None:
    drawn = named_generator(0, "zero shot")
    images = torch.randn(300, WIDTH, generator=drawn)  # more than one chunk
    prompts = [torch.randn(2 + c % 3, WIDTH, generator=drawn) for c in range(7)]
    belongs = torch.rand(300, 7, generator=drawn) < 0.2
    belongs[torch.arange(300), torch.randint(7, (300,), generator=drawn)] = True
    places = torch.tensor([c for c, of_class in enumerate(prompts) for _ in of_class])
    found = zero_shot(
        flat_model(WIDTH), PARAMS, images.split(128), torch.cat(prompts), prompt_class=places, belongs=belongs
    )
    assert found == pytest.approx({f"top{k}": accuracy(images, prompts, belongs, k) for k in (1, 5)})
    assert 0 < found["top1"] < found["top5"] < 100


@pytest.mark.parametrize(
    ("image", "top1"), [([1.0, 0.0, 0.0], 100.0), ([0.0, 0.0, 1.0], 0.0), ([float("nan")] * 3, 0.0)]
)
def test_ties_and_what_is_not_finite_are_wrong(image: list[float], top1: float) -> None:
    prompts, belongs = torch.eye(3)[:2], torch.tensor([[True, False]])
    places = torch.arange(2)
    found = zero_shot(flat_model(3), PARAMS, [torch.tensor([image])], prompts, prompt_class=places, belongs=belongs)
    assert found == {"top1": top1}, "with two classes there is no top-5"
