"""Where a synthetic set starts."""

import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from sklearn.cluster import MiniBatchKMeans

from engine.data.pairs import PairDataset
from engine.rng import named_generator
from engine.synthetic import initialisation
from engine.synthetic.initialisation import Init, SeedPairs, central_pairs, initial_tensors, random_pairs

CAPTIONS_EACH = 3


def dataset(images: int = 10) -> PairDataset:
    """Return images that say which they are: image i is i everywhere."""
    pixels = np.broadcast_to(np.arange(images, dtype=np.uint8)[:, None, None, None], (images, 3, 4, 4)).copy()
    pixels.setflags(write=False)
    owners = np.random.default_rng(0).permutation(np.repeat(np.arange(images), CAPTIONS_EACH))
    names = tuple(f"{number}.png" for number in range(images))
    return PairDataset(pixels, names, tuple(f"caption {number}" for number in range(len(owners))), owners)


def no_features() -> torch.Tensor:
    raise AssertionError("only kmeans may ask for features")


def seed_pairs(features: Callable[[], torch.Tensor] = no_features, images: int = 10) -> SeedPairs:
    """Return pairs whose text embedding is the number of the caption."""
    data = dataset(images)
    texts = np.repeat(np.arange(len(data), dtype=np.float32)[:, None], 5, axis=1)
    texts.setflags(write=False)
    return SeedPairs(data, texts, features)


def clusters(images: int = 10) -> torch.Tensor:
    """Return features of every caption: its image's own corner, with a little noise."""
    owners = torch.from_numpy(dataset(images).caption_image)
    noise = torch.randn(len(owners), images, generator=named_generator(0, "noise"))
    return 10 * torch.eye(images)[owners] + 0.1 * noise


def numbers(images: torch.Tensor, texts: torch.Tensor) -> tuple[list[int], list[int]]:
    """Return which images and which captions these are."""
    return (255 * images[:, 0, 0, 0]).round().int().tolist(), texts[:, 0].int().tolist()


@pytest.mark.parametrize("seed", range(5))
def test_random_pairs_are_of_distinct_images_while_there_are_enough(seed: int) -> None:
    data = dataset()
    for count in (1, 7, 10):
        chosen = random_pairs(data, count, named_generator(seed, "pairs")).numpy()
        assert len(chosen) == count
        assert len(set(data.caption_image[chosen])) == count


def test_random_pairs_repeat_images_but_no_pair_where_there_are_too_few() -> None:
    data = dataset()
    chosen = random_pairs(data, 14, named_generator(0, "pairs")).numpy()
    assert len(set(chosen)) == 14
    assert len(set(data.caption_image[chosen[:10]])) == 10
    assert sorted(random_pairs(data, 30, named_generator(0, "pairs")).tolist()) == list(range(30))


def test_every_caption_of_every_image_is_drawn_about_equally_often() -> None:
    data = dataset(4)
    counts = np.zeros(len(data))
    for seed in range(600):
        counts[random_pairs(data, 1, named_generator(seed, "pairs")).numpy()] += 1
    assert counts.min() > 25  # of 600 draws of 12 captions: 50 expected, standard deviation 7
    assert counts.max() < 80


def test_central_pairs_take_one_of_each_cluster() -> None:
    chosen = central_pairs(clusters(), dataset().caption_image, 10, named_generator(0, "pairs"))
    assert sorted(dataset().caption_image[chosen.numpy()]) == list(range(10))


def test_a_central_pair_is_the_nearest_to_its_centre_and_taken_once() -> None:
    # One cluster: its centre is the mean, 2.5 of 0, 1, 2, 7; the nearest is 2.
    points = torch.tensor([[0.0], [7.0], [2.0], [1.0]])
    assert central_pairs(points, np.arange(4), 1, named_generator(0, "pairs")).tolist() == [2]
    features, image = torch.randn(12, 3, generator=named_generator(0, "f")), np.repeat(np.arange(6), 2)
    pairs = central_pairs(features, image, 12, named_generator(0, "pairs")).numpy()
    assert sorted(pairs) == list(range(12))
    assert sorted(image[pairs[:6]]) == list(range(6))  # no image twice before each was taken once


def test_wide_features_come_in_chunks_and_are_projected(monkeypatch: pytest.MonkeyPatch) -> None:
    owners, directions = dataset().caption_image, torch.randn(10, 2000, generator=named_generator(0, "wide"))
    alive, shapes, fit = [], [], MiniBatchKMeans.fit

    def chunks() -> Iterator[torch.Tensor]:
        for first in range(0, 30, 4):
            rows = (clusters()[first : first + 4] @ directions).half()
            alive.append(weakref.ref(rows))
            yield rows
            del rows
            assert all(one() is None for one in alive), "one chunk at a time"

    def recorded(self: MiniBatchKMeans, values: np.ndarray) -> MiniBatchKMeans:
        shapes.append((values.shape, values.dtype))
        return fit(self, values)

    monkeypatch.setattr(MiniBatchKMeans, "fit", recorded)
    central_pairs((clusters() @ directions).half(), owners, 10, named_generator(0, "pairs"))
    assert shapes.pop() == ((30, 2000), np.float32)  # as they are, where they take little memory
    monkeypatch.setattr(initialisation, "MAX_NUMBERS", 0)
    chosen = central_pairs(chunks(), owners, 10, named_generator(0, "pairs"))
    assert shapes == [((30, 256), np.float32)]
    assert sorted(owners[chosen.numpy()]) == list(range(10))
    whole = central_pairs((clusters() @ directions).half(), owners, 10, named_generator(0, "pairs"))
    assert torch.equal(chosen, whole)


def test_real_takes_image_and_caption_of_the_same_pairs() -> None:
    seeds = seed_pairs()
    images, texts = initial_tensors(Init(), seeds, 8, named_generator(0, "init"))
    which, captions = numbers(images, texts)
    assert seeds.dataset.caption_image[captions].tolist() == which
    assert len(set(which)) == 8
    assert images.shape == (8, 3, 4, 4)
    assert torch.equal(images[:, 0, 0, 0], torch.tensor(which) / 255)


def test_kmeans_takes_image_and_caption_of_the_same_central_pairs() -> None:
    seeds = seed_pairs(clusters)
    which, captions = numbers(
        *initial_tensors(Init(image="kmeans", text="kmeans"), seeds, 10, named_generator(0, "init"))
    )
    assert seeds.dataset.caption_image[captions].tolist() == which
    assert sorted(which) == list(range(10))


def test_a_side_of_noise_leaves_the_other_sides_pairs_as_they_are() -> None:
    both = initial_tensors(Init(), seed_pairs(), 8, named_generator(0, "init"))
    image_only = initial_tensors(Init(text="noise"), seed_pairs(), 8, named_generator(0, "init"))
    text_only = initial_tensors(Init(image="noise"), seed_pairs(), 8, named_generator(0, "init"))
    assert torch.equal(image_only[0], both[0])
    assert torch.equal(text_only[1], both[1])
    assert not torch.equal(image_only[1], both[1])
    assert not torch.equal(text_only[0], both[0])


def test_noise_has_the_moments_of_the_data() -> None:
    random = np.random.default_rng(0)
    mean, std = np.array([60.0, 120.0, 180.0]), np.array([5.0, 10.0, 20.0])
    pixels = random.normal(mean, std, (300, 8, 8, 3)).clip(0, 255).round().astype(np.uint8).transpose(0, 3, 1, 2)
    texts = random.normal(0.5, 0.25, (300, 16)).astype(np.float32)
    names = tuple(str(number) for number in range(300))
    data = PairDataset(np.ascontiguousarray(pixels), names, names, np.arange(300))
    init = Init(image="noise", text="noise")
    images, drawn = initial_tensors(init, SeedPairs(data, texts, no_features), 300, named_generator(0, "init"))
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.tensor(mean / 255).float(), rtol=0, atol=0.005)
    torch.testing.assert_close(images.std((0, 2, 3)), torch.tensor(std / 255).float(), rtol=0.05, atol=0)
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.02)
    assert drawn.std().item() == pytest.approx(0.25, rel=0.05)
    assert abs(np.corrcoef(images.flatten(1).mean(1), drawn.mean(1))[0, 1]) < 0.3


def test_tokens_start_as_prepared_and_noise_has_their_moments_and_lengths() -> None:
    data = dataset(100)
    ids = np.random.default_rng(0).integers(0, 7, (len(data), 6))
    ids[np.arange(6) >= np.random.default_rng(1).integers(2, 6, len(data))[:, None]] = -1
    table = 0.5 + 0.25 * torch.randn(7, 8, generator=named_generator(0, "table"))

    def prepare(rows: torch.Tensor) -> torch.Tensor:
        present = (rows >= 0).unsqueeze(-1)
        return torch.cat([table[rows.clamp(min=0)] * present, present.float()], dim=-1)

    seeds = SeedPairs(data, ids, no_features, prepare)
    _, real = initial_tensors(Init(), seeds, 12, named_generator(0, "init"))
    chosen = torch.from_numpy(ids[random_pairs(data, 12, named_generator(0, "init")).numpy()])
    assert torch.equal(real, prepare(chosen))
    _, noise = initial_tensors(Init(text="noise"), seeds, 250, named_generator(0, "init"))
    mask = noise[..., -1] > 0.5
    assert set(mask.sum(dim=1).tolist()) == {2, 3, 4, 5}
    assert not noise[~mask].any()
    used = prepare(torch.from_numpy(ids))
    drawn, given = noise[mask][:, :-1], used[used[..., -1] > 0.5][:, :-1]
    assert drawn.mean().item() == pytest.approx(given.mean().item(), abs=0.03)
    assert drawn.std().item() == pytest.approx(given.std().item(), rel=0.05)


STARTS = ["real", "kmeans", "noise"]


@pytest.mark.parametrize("image", STARTS)
@pytest.mark.parametrize("text", STARTS)
def test_every_start_is_a_function_of_the_generator_and_owns_its_memory(image: str, text: str) -> None:
    seeds = seed_pairs(clusters)
    before, pixels = torch.get_rng_state(), seeds.dataset.images.copy()
    first, again = (
        initial_tensors(Init(image=image, text=text), seeds, 8, named_generator(0, "init")) for _ in range(2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    other = initial_tensors(Init(image=image, text=text), seeds, 8, named_generator(1, "init"))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[1], other[1])
    for side in first:
        assert side.dtype == torch.float32
        side.zero_()
    assert np.array_equal(seeds.dataset.images, pixels)


@pytest.mark.parametrize("start", STARTS)
def test_more_pairs_than_there_are_is_refused(start: str) -> None:
    with pytest.raises(ValueError, match=r"^method\.num_pairs: 31 pairs were asked for, but the data has 30\.$"):
        initial_tensors(Init(image=start, text=start), seed_pairs(clusters), 31, named_generator(0, "init"))
