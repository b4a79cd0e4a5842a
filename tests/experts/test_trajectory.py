"""Segments of trajectories."""

from collections import Counter

import pytest
import torch

from engine.experts.trajectory import ExpertSource, MemorySource, sample_segment
from engine.rng import named_generator


def source(*epochs: tuple[int, ...]) -> MemorySource:
    """Return experts with these epochs, whose parameters say which expert and epoch they are."""
    return MemorySource(
        [
            {epoch: {f"{m}.w": torch.tensor([expert, epoch]) for m in ("image", "text")} for epoch in given}
            for expert, given in enumerate(epochs)
        ]
    )


def draws(given: MemorySource, count: int = 400, **options: int) -> Counter[tuple[int, int, int]]:
    """Return how often each (expert, start, target) is drawn, having checked that both modalities agree."""
    found: Counter[tuple[int, int, int]] = Counter()
    generator = named_generator(0, "segments")
    for _ in range(count):
        segment = sample_segment(given, generator, **options)
        assert torch.equal(segment.start["image.w"], segment.start["text.w"])
        assert torch.equal(segment.target["image.w"], segment.target["text.w"])
        (expert, start), (other, target) = segment.start["image.w"].tolist(), segment.target["image.w"].tolist()
        assert expert == other
        found[expert, start, target] += 1
    return found


def test_starts_lie_below_max_start_and_targets_span_epochs_later() -> None:
    found = draws(source(tuple(range(6)), tuple(range(6))), span=2, max_start=3)
    assert found.keys() == {(expert, start, start + 2) for expert in (0, 1) for start in (0, 1, 2)}
    assert min(found.values()) > 35  # of 400 draws of 6 segments: 67 expected, standard deviation 7.5


def test_the_last_epochs_are_targets_alone() -> None:
    assert draws(source((0, 1, 2, 3)), count=60, span=3, max_start=10).keys() == {(0, 0, 3)}
    assert draws(source((0, 1, 2)), count=60, span=1, max_start=10).keys() == {(0, 0, 1), (0, 1, 2)}


def test_gaps_are_never_bridged() -> None:
    found = draws(source((0, 2, 3), (5,), (), (1, 2)), count=100, span=1, max_start=9)
    assert found.keys() == {(0, 2, 3), (3, 1, 2)}


def test_a_draw_is_a_function_of_the_generator() -> None:
    given = source(tuple(range(9)), tuple(range(9)))
    first, again = (
        [sample_segment(given, generator, span=1, max_start=8).start["text.w"].tolist() for _ in range(20)]
        for generator in (named_generator(0, "a"), named_generator(0, "a"))
    )
    assert first == again
    assert len({tuple(one) for one in first}) > 5


@pytest.mark.parametrize(
    ("epochs", "span", "max_start", "longest"),
    [([(0, 1, 2)], 3, 1, 3), ([(0, 1), (0,)], 2, 5, 2), ([], 1, 1, 0), ([(3, 4)], 1, 3, 2)],
)
def test_no_segment_says_what_was_looked_for(epochs: list, span: int, max_start: int, longest: int) -> None:
    message = rf"method\.span = {span} with method\.max_start = {max_start} finds no segment .* {longest} snapshots"
    with pytest.raises(ValueError, match=message):
        sample_segment(source(*epochs), named_generator(0, "a"), span=span, max_start=max_start)


def test_memory_lists_epochs_in_order_and_is_a_source() -> None:
    given = source((2, 0, 1))
    assert isinstance(given, ExpertSource)
    assert given.index() == {0: (0, 1, 2)}
    assert given.load(0, 1)["image.w"].tolist() == [0, 1]


def test_texts_with_a_range_of_their_own_start_independently_of_the_images() -> None:
    given, generator = source(tuple(range(6)), tuple(range(6))), named_generator(0, "segments")
    found = Counter()
    for _ in range(600):
        segment = sample_segment(given, generator, span=2, max_start=2, text_max_start=4)
        (expert, image), (other, text) = segment.start["image.w"].tolist(), segment.start["text.w"].tolist()
        assert expert == other
        assert segment.target["image.w"].tolist() == [expert, image + 2]
        assert segment.target["text.w"].tolist() == [expert, text + 2]
        found[image, text] += 1
    assert found.keys() == {(image, text) for image in range(2) for text in range(4)}
    assert min(found.values()) > 45  # 75 expected, standard deviation 8
