"""Inner batches, and students trained without a gradient."""

import gc

import pytest
import torch

from engine.io.paths import Paths
from engine.rng import named_generator
from engine.synthetic.set import SyntheticSet
from engine.unroll import InnerBatch
from engine.unroll.student import inner_batches, inner_loss, trained_params
from tests.toys import PIXELS, TEXT_FEATURES, tiny_student


@pytest.mark.parametrize(("pairs", "size", "steps"), [(100, 40, 1600), (99, 20, 500), (7, 6, 100), (5, 5, 20)])
def test_no_batch_holds_a_pair_twice_and_all_pairs_are_used_equally_often(pairs: int, size: int, steps: int) -> None:
    batches = [batch.pairs for batch in inner_batches(pairs, size, steps, named_generator(0, "batches"))]
    assert all(len(batch) == size == len(batch.unique()) for batch in batches)
    counts = torch.bincount(torch.cat(batches), minlength=pairs)
    assert counts.max() - counts.min() <= 1


def test_batches_that_divide_the_pairs_are_permutations_cut_into_parts() -> None:
    generator = named_generator(0, "batches")
    expected = torch.cat([torch.randperm(6, generator=generator) for _ in range(2)]).split(3)
    drawn = inner_batches(6, 3, 4, named_generator(0, "batches"))
    assert [batch.pairs.tolist() for batch in drawn] == [part.tolist() for part in expected]
    assert [len(batch.pairs) for batch in inner_batches(6, None, 2, generator)] == [6, 6]
    assert [len(batch.pairs) for batch in inner_batches(6, 20, 2, generator)] == [6, 6]


def test_every_pair_comes_in_every_place_about_equally_often() -> None:
    generator = named_generator(0, "batches")
    second = torch.cat([inner_batches(5, 3, 2, generator)[1].pairs for _ in range(400)])
    assert torch.bincount(second).min() > 180  # of 1,200: 240 expected, standard deviation 12


def test_steps_without_a_gradient_keep_the_last_parameters_alone(paths: Paths) -> None:
    student = tiny_student(paths)
    generator = named_generator(0, "set")
    images = torch.rand(4, 3, PIXELS, PIXELS, generator=generator)
    synthetic = SyntheticSet(images, torch.randn(4, TEXT_FEATURES, generator=generator), {"image": 0.1, "text": 0.1})
    start, plain = student.init_params(generator), inner_loss(student)
    name = max(start, key=lambda name: start[name].numel())
    alive: list[int] = []

    def counting(params: dict, data: dict, batch: InnerBatch) -> torch.Tensor:
        tensors = [one for one in gc.get_objects() if type(one) is torch.Tensor and one.shape == start[name].shape]
        alive.append(len({one.untyped_storage().data_ptr() for one in tensors}))
        return plain(params, data, batch)

    trained = trained_params(synthetic, student, start, inner_batches(4, None, 12, generator), counting)
    assert len(alive) == 12
    assert alive[-1] <= alive[2]
    assert not any(value.requires_grad for value in trained.values())
    assert not torch.equal(trained[name], start[name])
