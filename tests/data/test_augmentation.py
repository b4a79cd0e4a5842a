import pytest
import torch

from engine.data.augmentation import augment, crop_flip
from engine.rng import named_generator


def batch(count: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=named_generator(0, "images"))


def test_none_is_the_batch_itself() -> None:
    images = batch()
    assert augment(images, "none", named_generator(0, "x")) is images


def test_flip_mirrors_about_half_and_nothing_else() -> None:
    images = batch()
    views = augment(images, "flip", named_generator(0, "x"))
    same = (views == images).flatten(1).all(1)
    mirrored = (views == images.flip(-1)).flatten(1).all(1)
    assert torch.all(same ^ mirrored)
    assert 16 < mirrored.sum() < 48


def test_crop_of_a_ramp_keeps_half_the_area_at_least() -> None:
    ramp = torch.arange(32.0).expand(64, 3, 32, 32)
    views = crop_flip(ramp, named_generator(0, "x"))
    step = (views[:, 0, 0, 17] - views[:, 0, 0, 14]) / 3  # +-side of the crop
    assert torch.all((step.abs() >= 0.5**0.5 - 1e-3) & (step.abs() <= 1 + 1e-3))
    assert 16 < (step < 0).sum() < 48
    assert views.min() >= 0
    assert views.max() <= 31


@pytest.mark.parametrize("name", ["flip", "crop_flip"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_kind_is_kept_and_draws_repeat(name: str, dtype: torch.dtype) -> None:
    images = batch().to(dtype)
    before = torch.get_rng_state()
    first, again, other = (augment(images, name, named_generator(0, label)) for label in ("x", "x", "y"))
    assert first.dtype == dtype
    assert first.shape == images.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 'none', 'flip' or 'crop_flip', got 'rotate'"):
        augment(batch(1), "rotate", named_generator(0, "x"))
