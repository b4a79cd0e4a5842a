"""Named random streams."""

import torch

from engine.rng import draw_seed, forked, named_generator


def draws(generator: torch.Generator, count: int = 64) -> torch.Tensor:
    return torch.rand(count, generator=generator)


def test_a_stream_depends_on_seed_and_name_alone() -> None:
    first = draws(named_generator(3, "expert/0"))
    draws(named_generator(3, "expert/1"))
    assert torch.equal(draws(named_generator(3, "expert/0")), first)


def test_streams_of_other_names_and_seeds_are_others() -> None:
    names = [(0, "a"), (0, "b"), (1, "a"), (0, "a/1"), (11, "a"), (1, "1/a"), (2**63 - 1, "a")]
    values = torch.stack([draws(named_generator(seed, name)) for seed, name in names])
    assert len(values.unique(dim=0)) == len(names)
    correlations = torch.corrcoef(values).fill_diagonal_(0)
    assert correlations.abs().max() < 0.5  # four standard deviations of 64 independent draws


def test_the_values_of_a_stream_stay_what_they_are() -> None:
    # Printed once by torch.randint(1000, (4,), generator=stream(0, "init")); experts on disk rely on them.
    assert torch.randint(1000, (4,), generator=named_generator(0, "init")).tolist() == [412, 29, 140, 474]


def test_forked_draws_from_the_generator_and_restores_the_global_one() -> None:
    before = torch.get_rng_state()
    with forked(named_generator(0, "x")):
        first = torch.rand(4)
    with forked(named_generator(0, "x")):
        again = torch.rand(4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    generator = named_generator(0, "x")
    with forked(generator):
        whatever_was_drawn = torch.rand(4)
    with forked(generator):
        later = torch.rand(4)
    assert torch.equal(first, again)
    assert torch.equal(first, whatever_was_drawn)
    assert not torch.equal(first, later)


def test_forked_restores_the_global_generator_after_an_error() -> None:
    before = torch.get_rng_state()
    try:
        with forked(named_generator(0, "x")):
            torch.rand(4)
            raise KeyError
    except KeyError:
        pass
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_drawn_one_after_the_other_differ_and_repeat() -> None:
    generator, same = named_generator(0, "seeds"), named_generator(0, "seeds")
    seeds = [draw_seed(generator) for _ in range(100)]
    assert seeds == [draw_seed(same) for _ in range(100)]
    assert len(set(seeds)) == 100
    assert all(0 <= seed < 2**31 for seed in seeds)
