"""Every coreset of the folder through one matrix, then each against its definition on small inputs."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from engine import coresets
from engine.coresets import (
    JointFeatures,
    WarmupStatistics,
    best_index,
    clipcov,
    forgetting,
    herding,
    k_center,
    prototype,
)

NAMES = sorted(module.name for module in pkgutil.iter_modules(coresets.__path__) if module.name[0] != "_")
FEATURES = ("concat", "sum")


def warmup_of(image: Tensor, text: Tensor | None = None, *, count: Tensor | None = None) -> WarmupStatistics:
    """Return statistics of pairs of one caption each."""
    count = torch.zeros(len(image), dtype=torch.long) if count is None else count
    flags = torch.zeros(2, len(image), dtype=torch.bool)
    return WarmupStatistics(image, image if text is None else text, torch.arange(len(image)), count, *flags)


def random_warmup(pairs: int = 40, dim: int = 6, *, seed: int = 0) -> WarmupStatistics:
    """Return float16 statistics of a quarter as many images, whose captions come in any order."""
    draw = seeded(seed)
    image, text = (normalize(torch.randn(size, dim, generator=draw)).half() for size in (pairs // 4, pairs))
    owner = torch.cat([torch.arange(len(image)), torch.randint(len(image), (pairs - len(image),), generator=draw)])
    count = torch.randint(0, 4, (pairs,), generator=draw)
    never_learned = (count == 0) & (torch.rand(pairs, generator=draw) < 0.5)
    return WarmupStatistics(image, text, owner, count, never_learned, torch.zeros(pairs, dtype=torch.bool))


def joint(warmup: WarmupStatistics, feature: str) -> Tensor:
    """Return the vectors of all pairs in float64."""
    image, text = warmup.image_features[warmup.caption_image].double(), warmup.text_features.double()
    return torch.cat([image, text], dim=1) if feature == "concat" else image + text


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def entry(name: str) -> Callable[..., Tensor]:
    return importlib.import_module(f"engine.coresets.{name}").select


def test_the_folder_holds_those_of_the_field() -> None:
    assert {"random", "herding", "k_center", "forgetting", "prototype", "clipcov"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
class TestEveryCoreset:
    @pytest.mark.parametrize("num_pairs", [1, 7, 40])
    def test_picks_the_asked_number_of_distinct_pairs(self, name: str, num_pairs: int) -> None:
        picks = entry(name)(random_warmup(), num_pairs, seeded(0))
        assert picks.dtype == torch.long
        assert picks.shape == (num_pairs,)
        assert len(set(picks.tolist())) == num_pairs
        assert set(picks.tolist()) <= set(range(40))

    def test_is_a_function_of_the_generator(self, name: str) -> None:
        warmup = warmup_of(torch.ones(30, 2) / 2**0.5)
        once, again, other = (entry(name)(warmup, 9, seeded(seed)) for seed in (3, 3, 4))
        assert torch.equal(once, again)
        assert not torch.equal(once, other), "all pairs are equal: another generator chooses others"

    def test_leaves_the_global_generator_and_the_statistics_alone(self, name: str) -> None:
        warmup, state = random_warmup(), torch.get_rng_state()
        before = warmup.image_features.clone(), warmup.text_features.clone(), warmup.forgetting.clone()
        entry(name)(warmup, 9, seeded(0))
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(warmup.image_features, before[0])
        assert torch.equal(warmup.text_features, before[1])
        assert torch.equal(warmup.forgetting, before[2])

    @pytest.mark.parametrize("num_pairs", [0, 41])
    def test_refuses_a_budget_it_cannot_fill(self, name: str, num_pairs: int) -> None:
        with pytest.raises(ValueError, match=rf"num_pairs: expected 1 to 40, .* found {num_pairs}\."):
            entry(name)(random_warmup(), num_pairs, seeded(0))

    def test_options_are_keyword_only_and_have_defaults(self, name: str) -> None:
        parameters = list(inspect.signature(entry(name)).parameters.values())
        assert [parameter.name for parameter in parameters[:3]] == ["warmup", "num_pairs", "generator"]
        assert all(option.kind is option.KEYWORD_ONLY for option in parameters[3:])
        assert all(option.default is not option.empty for option in parameters[3:])


def herding_by_hand(features: Tensor, num_pairs: int) -> list[int]:
    mean, picks = features.mean(dim=0), list[int]()
    for t in range(1, num_pairs + 1):
        rest = [i for i in range(len(features)) if i not in picks]
        gap = {i: (t * mean - features[[*picks, i]].sum(dim=0)).norm().item() for i in rest}
        picks.append(min(rest, key=gap.__getitem__))
    return picks


def clipcov_by_hand(warmup: WarmupStatistics, num_pairs: int) -> list[int]:
    image, text = warmup.image_features[warmup.caption_image].double(), warmup.text_features.double()
    outer = torch.einsum("md,me->mde", image - image.mean(dim=0), text - text.mean(dim=0))
    return herding_by_hand(outer.flatten(1), num_pairs)


def k_center_by_hand(features: Tensor, picks: list[int], num_pairs: int) -> list[int]:
    picks = list(picks)
    while len(picks) < num_pairs:
        rest = [i for i in range(len(features)) if i not in picks]
        gap = {i: min((features[i] - features[c]).norm().item() for c in picks) for i in rest}
        picks.append(max(rest, key=gap.__getitem__))
    return picks


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("seed", range(5))
def test_herding_is_the_greedy_double_loop(feature: str, seed: int) -> None:
    warmup = random_warmup(seed=seed)
    picks = herding.select(warmup, 15, seeded(seed), feature=feature)
    assert picks.tolist() == herding_by_hand(joint(warmup, feature), 15)


@pytest.mark.parametrize("seed", range(5))
def test_clipcov_is_herding_of_outer_products(seed: int) -> None:
    warmup = random_warmup(seed=seed)
    picks = clipcov.select(warmup, 15, seeded(seed))
    assert picks.tolist() == clipcov_by_hand(warmup, 15)


def test_clipcov_keeps_the_cross_covariance_better_than_chance() -> None:
    warmup = random_warmup(400, 8)

    def error(picks: Tensor) -> float:
        image, text = warmup.image_features[warmup.caption_image].double(), warmup.text_features.double()
        image, text = image - image.mean(dim=0), text - text.mean(dim=0)
        return (image[picks].T @ text[picks] / len(picks) - image.T @ text / len(image)).norm().item()

    chance = [error(torch.randperm(400, generator=seeded(seed))[:20]) for seed in range(20)]
    assert error(clipcov.select(warmup, 20, seeded(0))) < min(chance) / 2


def test_a_prototype_is_the_pair_nearest_to_the_centre_of_its_group() -> None:
    directions = torch.eye(5, dtype=torch.float32).repeat_interleave(6, dim=0)
    noise = 0.05 * torch.randn(30, 5, generator=seeded(1))
    image = normalize(directions + noise)
    picks = prototype.select(warmup_of(image), 5, seeded(0))
    assert sorted(pick // 6 for pick in picks.tolist()) == list(range(5))
    for pick in picks.tolist():
        group = range(pick // 6 * 6, pick // 6 * 6 + 6)
        distance = (image[group] - image[group].mean(dim=0)).norm(dim=1)
        assert distance[pick % 6] == distance.min()


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("seed", range(5))
def test_k_center_is_the_farthest_first_double_loop(feature: str, seed: int) -> None:
    warmup = random_warmup(seed=seed)
    picks = k_center.select(warmup, 15, seeded(seed), feature=feature).tolist()
    assert picks == k_center_by_hand(joint(warmup, feature), picks[:1], 15)


def test_herding_on_a_hand_case() -> None:
    # Points (1,0), (0,1), (0.6,0.8), (0.8,0.6); their mean is (0.6, 0.6).
    # Pick 1: squared distances to the mean 0.52, 0.52, 0.04, 0.04: pair 2 or 3. Take 2: its sum misses (0.6, 0.4) of
    # twice the mean, squared distances 0.32, 0.72, -, 0.08: pair 3. After both, (0.4, 0.4) is missing of three times
    # the mean: pairs 0 and 1 tie at 0.52. Last comes the one that is left.
    points = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, 0.6]], dtype=torch.float64)
    orders = [herding.select(warmup_of(points), 4, seeded(seed)).tolist() for seed in range(8)]
    assert all(set(order[:2]) == {2, 3} for order in orders)


def test_k_center_on_a_hand_case() -> None:
    # Angles 0, 10, 90 and 180 degrees. From 0 the farthest is 180, then 90 lies farther from both than 10.
    angle = torch.tensor([0.0, 10.0, 90.0, 180.0], dtype=torch.float64).deg2rad()
    warmup = warmup_of(torch.stack([angle.cos(), angle.sin()], dim=1))
    orders = {tuple(k_center.select(warmup, 4, seeded(seed)).tolist()) for seed in range(20)}
    assert (0, 3, 2, 1) in orders
    assert {order[0] for order in orders} == {0, 1, 2, 3}, "the first centre is random"


def test_k_center_visits_every_distinct_point_before_a_duplicate() -> None:
    points = torch.eye(4).repeat(3, 1)
    picks = k_center.select(warmup_of(points), 12, seeded(0))
    assert set((picks[:4] % 4).tolist()) == {0, 1, 2, 3}
    assert sorted(picks.tolist()) == list(range(12))


class TestForgetting:
    # counts           0      2      1      3      0 (never learned)
    counts = torch.tensor([0, 2, 1, 3, 0])
    never = torch.tensor([False, False, False, False, True])

    def picks(self, num_pairs: int = 5, *, never_seen: tuple[int, ...] = (), **options: object) -> list[int]:
        unseen = torch.zeros(5, dtype=torch.bool)
        unseen[list(never_seen)] = True
        warmup = WarmupStatistics(torch.eye(5), torch.eye(5), torch.arange(5), self.counts, self.never, unseen)
        return forgetting.select(warmup, num_pairs, seeded(0), **options).tolist()

    @pytest.mark.parametrize(("direction", "order"), [("ascending", [2, 1, 3, 4]), ("descending", [4, 3, 1, 2])])
    def test_a_pair_that_was_never_seen_comes_last_in_either_direction(self, direction: str, order: list[int]) -> None:
        assert self.picks(4, never_seen=(0,), direction=direction) == order
        assert self.picks(never_seen=(0,), direction=direction) == [*order, 0]

    def test_ascending_keeps_the_least_forgotten_and_puts_the_never_learned_last(self) -> None:
        assert self.picks() == [0, 2, 1, 3, 4]

    def test_descending_starts_with_the_never_learned(self) -> None:
        assert self.picks(direction="descending") == [4, 3, 1, 2, 0]

    def test_the_penalty_places_the_never_learned(self) -> None:
        assert self.picks(penalty=2)[-1] == 3

    def test_equal_counts_are_told_apart_by_the_generator(self) -> None:
        warmup = warmup_of(torch.eye(6), count=torch.tensor([1, 0, 1, 0, 1, 0]))
        orders = {tuple(forgetting.select(warmup, 6, seeded(seed)).tolist()) for seed in range(10)}
        assert len(orders) > 1
        assert all(set(order[:3]) == {1, 3, 5} for order in orders)


def test_best_index_prefers_the_lowest_priority_of_equal_scores() -> None:
    assert best_index(torch.tensor([1.0, 3.0, 3.0, 2.0]), torch.tensor([0, 2, 1, 3])) == 2


@pytest.mark.parametrize("chunk", [1, 7, 4096])
@pytest.mark.parametrize("feature", FEATURES)
def test_joint_features_equal_those_of_the_whole(feature: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coresets, "CHUNK", chunk)
    warmup = random_warmup()
    expected, features = joint(warmup, feature), JointFeatures(warmup, feature)
    vector = torch.randn(expected.shape[1], generator=seeded(1))
    torch.testing.assert_close(torch.cat(list(features.chunks())).double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(features.dot(vector).double(), expected @ vector.double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(features.squared_norms().double(), expected.square().sum(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(features[torch.tensor([3, 9])].double(), expected[[3, 9]], rtol=1e-6, atol=1e-6)


def test_concat_and_sum_join_the_two_embeddings() -> None:
    warmup = warmup_of(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    assert JointFeatures(warmup, "concat")[:1].tolist() == [[1.0, 0.0, 0.0, 1.0]]
    assert JointFeatures(warmup, "sum")[:1].tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("name", ["herding", "k_center"])
def test_features_of_a_diverged_warm_up_are_refused_where_they_are_read(name: str) -> None:
    with pytest.raises(ValueError, match="finite features"):
        entry(name)(warmup_of(torch.tensor([[1.0, torch.nan]])), 1, seeded(0))
