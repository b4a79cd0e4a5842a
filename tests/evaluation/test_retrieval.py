"""Retrieval recall against a brute-force double loop and a case worked out by hand."""

import pytest
import torch
from torch import Tensor

from engine.evaluation import retrieval
from engine.evaluation.retrieval import retrieval_metrics

KEYS = ["IR1", "IR5", "IR10", "TR1", "TR5", "TR10", "mean_recall"]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def from_scores(scores: Tensor, caption_image: Tensor) -> dict[str, float]:
    """Measure a table of scores [images, captions]: with unit vectors as images, a caption's scores are its vector."""
    return retrieval_metrics(torch.eye(len(scores)), scores.T.contiguous(), caption_image)


def brute_force(scores: list[list[float]], caption_image: list[int]) -> dict[str, float]:
    """Count, one query at a time, the items of another image that score at least as high as the true one."""
    images, captions = range(len(scores)), range(len(caption_image))
    image_ranks = [
        sum(scores[i][c] >= scores[caption_image[c]][c] for i in images if i != caption_image[c]) for c in captions
    ]
    caption_ranks = []
    for i in images:
        own = max(scores[i][c] for c in captions if caption_image[c] == i)
        caption_ranks.append(sum(scores[i][c] >= own for c in captions if caption_image[c] != i))
    recall = {
        f"{name}{k}": 100 * sum(rank < k for rank in ranks) / len(ranks)
        for name, ranks in (("IR", image_ranks), ("TR", caption_ranks))
        for k in (1, 5, 10)
    }
    return recall | {"mean_recall": sum(recall.values()) / 6}


def random_case(seed: int) -> tuple[Tensor, Tensor]:
    """Return whole-numbered scores, so that ties are many, and one to four captions an image in mixed order."""
    draw = seeded(seed)
    images = int(torch.randint(5, 40, (), generator=draw))
    per_image = torch.randint(1, 5, (images,), generator=draw)
    owners = torch.arange(images).repeat_interleave(per_image)
    owners = owners[torch.randperm(len(owners), generator=draw)]
    scores = torch.randint(0, 12, (images, len(owners)), generator=draw).float()
    return scores + 4 * (torch.arange(images)[:, None] == owners), owners


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("chunk", [1, 100, 2**22])
def test_equals_the_brute_force_double_loop(seed: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "CHUNK_SCORES", chunk)
    scores, owners = random_case(seed)
    measured = from_scores(scores, owners)
    assert list(measured) == KEYS
    assert measured == pytest.approx(brute_force(scores.tolist(), owners.tolist()), abs=1e-12)


def test_a_hand_made_table_of_four_images_and_eight_captions() -> None:
    scores = torch.tensor(
        [
            # captions 0 and 1 belong to image 0, 2 and 3 to image 1, and so on
            [9.0, 1.0, 2.0, 0.0, 0.0, 5.0, 1.0, 3.0],
            [1.0, 4.0, 7.0, 2.0, 0.0, 5.0, 8.0, 0.0],
            [0.0, 3.0, 7.0, 1.0, 6.0, 2.0, 0.0, 2.0],
            [2.0, 2.0, 1.0, 3.0, 1.0, 5.0, 4.0, 3.0],
        ]
    )
    # A caption looks down its column for its image:
    #   0: 9 is alone on top                        rank 0
    #   1: 1; images 1, 2, 3 score 4, 3, 2          rank 3
    #   2: 7; image 2 ties                          rank 1
    #   3: 2; image 3 scores 3                      rank 1
    #   4: 6 is alone on top                        rank 0
    #   5: 2; images 0, 1, 3 score 5                rank 3
    #   6: 4; image 1 scores 8                      rank 1
    #   7: 3; image 0 ties                          rank 1
    # so two of eight at 1, all at 5 and 10: IR 25, 100, 100.
    # An image looks along its row for its better caption:
    #   0: 9 is alone on top                        rank 0
    #   1: 7; caption 6 scores 8                    rank 1
    #   2: 6; caption 2 scores 7                    rank 1
    #   3: 4; caption 5 scores 5                    rank 1
    # so one of four at 1, all at 5 and 10: TR 25, 100, 100; the mean of the six is 75.
    measured = from_scores(scores, torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]))
    assert measured == dict(zip(KEYS, [25.0, 100.0, 100.0, 25.0, 100.0, 100.0, 75.0], strict=True))


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-30])
def test_a_student_that_collapsed_finds_nothing(value: float) -> None:
    owners = torch.arange(50).repeat_interleave(3)
    direction = torch.randn(37, generator=seeded(0)) * value
    measured = retrieval_metrics(direction.expand(50, 37), direction.expand(150, 37), owners)
    assert set(measured.values()) == {0.0}


def test_other_captions_of_the_same_image_never_count_against_it() -> None:
    owners = torch.arange(3).repeat_interleave(20)
    measured = from_scores(torch.eye(3)[:, owners], owners)
    assert set(measured.values()) == {100.0}


def test_perfect_embeddings_reach_a_hundred() -> None:
    measured = retrieval_metrics(torch.eye(30), torch.eye(30), torch.arange(30))
    assert set(measured.values()) == {100.0}


def test_the_order_of_images_and_captions_does_not_matter() -> None:
    draw = seeded(1)
    owners = torch.arange(60).repeat_interleave(5)
    images = torch.randn(60, 24, generator=draw).round(decimals=1)
    images[10:20] = images[:10]
    texts = images[owners] + torch.randn(300, 24, generator=draw).round(decimals=1)
    image_order, text_order = torch.randperm(60, generator=draw), torch.randperm(300, generator=draw)
    moved = retrieval_metrics(images[image_order], texts[text_order], image_order.argsort()[owners[text_order]])
    assert moved == retrieval_metrics(images, texts, owners)


def test_half_precision_embeddings_are_measured_too() -> None:
    assert retrieval_metrics(torch.eye(4).bfloat16(), torch.eye(4).bfloat16(), torch.arange(4))["IR1"] == 100.0


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_embeddings_that_are_not_finite_are_an_error(side: int, value: float) -> None:
    embeddings = [torch.eye(3), torch.eye(3)]
    embeddings[side][1, 1] = value
    with pytest.raises(ValueError, match="finite embeddings"):
        retrieval_metrics(*embeddings, torch.arange(3))


def test_images_without_captions_are_refused() -> None:
    with pytest.raises(ValueError, match="2 of 4 images have none"):
        retrieval_metrics(torch.eye(4), torch.eye(4)[:3], torch.tensor([0, 0, 2]))


def test_captions_of_no_image_are_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 1, found 0 to 5"):
        retrieval_metrics(torch.eye(2), torch.eye(2), torch.tensor([0, 5]))


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        retrieval_metrics(torch.empty(0, 2), torch.empty(0, 2), torch.empty(0, dtype=torch.long))
