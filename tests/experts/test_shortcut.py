"""Shortcut trajectories: straight lines, at the pace of the expert."""

import gc
import weakref
from collections import Counter
from itertools import pairwise

import torch

from engine.experts.shortcut import ShortcutSource
from engine.experts.trajectory import MemorySource
from engine.rng import named_generator


def wandering(epochs: int = 5) -> MemorySource:
    generator = named_generator(0, "wandering")
    path = [torch.zeros(3)]
    for _ in range(epochs):
        path.append(path[-1] + torch.randn(3, generator=generator))
    still = torch.ones(2)
    return MemorySource([{epoch: {"image.w": value, "text.w": still} for epoch, value in enumerate(path)}])


def test_the_ends_stay_and_the_middle_lies_on_the_line_at_the_share_of_the_path() -> None:
    source = wandering()
    shortcut = ShortcutSource(source, 4)
    path = [source.load(0, epoch)["image.w"] for epoch in range(5)]
    steps = [(b - a).norm() for a, b in pairwise(path)]
    for epoch in range(5):
        share = sum(steps[:epoch]) / sum(steps)
        torch.testing.assert_close(shortcut.load(0, epoch)["image.w"], torch.lerp(path[0], path[4], float(share)))
    assert torch.equal(shortcut.load(0, 0)["image.w"], path[0])
    assert torch.equal(shortcut.load(0, 4)["image.w"], path[4])


def test_what_did_not_move_stays() -> None:
    assert all(torch.equal(ShortcutSource(wandering(), 4).load(0, k)["text.w"], torch.ones(2)) for k in range(5))


def test_only_whole_experts_are_listed() -> None:
    source = MemorySource([{0: {}, 1: {}, 2: {}, 3: {}}, {0: {}, 2: {}}, {0: {}, 1: {}}])
    assert ShortcutSource(source, 2).index() == {0: (0, 1, 2)}


class Counting:
    """Counts how often each snapshot is loaded."""

    def __init__(self) -> None:
        self.source, self.loaded = wandering(), Counter()

    def index(self) -> dict[int, tuple[int, ...]]:
        return self.source.index()

    def load(self, expert: int, epoch: int) -> dict[str, torch.Tensor]:
        self.loaded[epoch] += 1
        return self.source.load(expert, epoch)


def test_the_path_is_measured_once() -> None:
    source = Counting()
    shortcut = ShortcutSource(source, 4)
    for _ in range(5):
        shortcut.load(0, 2)
    assert [source.loaded[epoch] for epoch in range(1, 4)] == [1, 1, 1]


def test_a_source_that_nobody_uses_is_freed() -> None:
    source = wandering()
    shortcut = ShortcutSource(source, 4)
    shortcut.load(0, 2)
    freed = weakref.ref(source)
    del source, shortcut
    gc.collect()
    assert freed() is None
