"""The contrastive loss against numbers worked out by hand."""

import math

import pytest
import torch

from engine.losses.contrastive import SOFT, LossName, contrastive_loss, info_nce, kl, similarities, wbce
from engine.rng import named_generator


def random_sides(pairs: int = 5, width: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = named_generator(0, "sides")
    images, texts = (torch.randn(pairs, width, generator=generator, dtype=torch.float64) for _ in range(2))
    return images, texts


def test_two_pairs_by_hand() -> None:
    # Lengths do not count: image 0 points along x, image 1 along y, text 0 along x, text 1 halfway between.
    images = torch.tensor([[2.0, 0.0], [0.0, 5.0]], dtype=torch.float64)
    texts = torch.tensor([[3.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    half = math.sqrt(0.5)
    cosines = [[1.0, half], [0.0, half]]
    torch.testing.assert_close(similarities(images, texts), torch.tensor(cosines, dtype=torch.float64))
    weights = [[math.exp(2 * cosine) for cosine in row] for row in cosines]  # temperature 0.5
    by_image = -sum(math.log(weights[i][i] / sum(weights[i])) for i in range(2)) / 2
    by_text = -sum(math.log(weights[i][i] / (weights[0][i] + weights[1][i])) for i in range(2)) / 2
    assert by_image != pytest.approx(by_text)
    loss = info_nce(images, texts, temperature=0.5)
    assert loss.item() == pytest.approx((by_image + by_text) / 2, rel=1e-12)


def test_is_symmetric_and_blind_to_order_and_length() -> None:
    images, texts = random_sides()
    loss = info_nce(images, texts, temperature=0.07)
    torch.testing.assert_close(info_nce(texts, images, temperature=0.07), loss)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(info_nce(images[order], texts[order], temperature=0.07), loss)
    torch.testing.assert_close(info_nce(3 * images, 0.2 * texts, temperature=0.07), loss)
    assert info_nce(images[order], texts, temperature=0.07) != loss


def test_equal_embeddings_cost_the_logarithm_of_the_batch() -> None:
    ones = torch.ones(6, 3)
    assert info_nce(ones, ones, temperature=0.07).item() == pytest.approx(math.log(6), rel=1e-6)


def test_derivatives_of_both_orders_are_those_of_finite_differences() -> None:
    images, texts = random_sides(pairs=3, width=4)
    inputs = (images.requires_grad_(), texts.requires_grad_())

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return info_nce(a, b, temperature=0.5)

    assert torch.autograd.gradcheck(loss, inputs)
    assert torch.autograd.gradgradcheck(loss, inputs)


def test_with_the_identity_as_target_the_soft_loss_is_info_nce() -> None:
    images, texts = random_sides()
    identity = torch.eye(5, dtype=torch.float64)
    hard = info_nce(images, texts, temperature=0.2)
    torch.testing.assert_close(contrastive_loss(images, texts, temperature=0.2, similarity=identity), hard)
    torch.testing.assert_close(contrastive_loss(images, texts, temperature=0.2), hard, rtol=0, atol=0)


def test_weighted_binary_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]], dtype=torch.float64)
    target = torch.tensor([[1.0, 0.0], [0.6, 0.9]], dtype=torch.float64)

    def each(z: float, s: float) -> float:
        sigmoid = 1 / (1 + math.exp(-z))
        return -s * math.log(sigmoid) - (1 - s) * math.log(1 - sigmoid)

    likely = (each(2.0, 1.0) + each(0.5, 0.6) + each(3.0, 0.9)) / 3
    assert wbce(logits, target).item() == pytest.approx((likely + each(-1.0, 0.0)) / 2, rel=1e-12)
    plain = (each(2.0, 1.0) + each(-1.0, 0.0) + each(0.5, 0.6) + each(3.0, 0.9)) / 4
    assert SOFT["bce"](logits, target).item() == pytest.approx(plain, rel=1e-12)


def test_the_divergence_vanishes_where_the_logits_are_the_target() -> None:
    target = torch.tensor([[1.0, 0.2], [-3.0, 0.9]], dtype=torch.float64)
    assert kl(10 * target, target).item() == pytest.approx(0, abs=1e-12)
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]], dtype=torch.float64)
    rows = [(logits, 10 * target), (logits.T, 10 * target.T)]
    by_hand = 0.0
    for z, s in rows:
        for i in range(2):
            p, q = ([math.exp(v) / sum(math.exp(w) for w in m[i].tolist()) for v in m[i].tolist()] for m in (s, z))
            by_hand += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 4
    assert kl(logits, target).item() == pytest.approx(by_hand, rel=1e-9)


def test_a_side_without_entries_is_left_out() -> None:
    logits = torch.tensor([[0.0]])
    assert wbce(logits, torch.ones(1, 1)).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("loss", ["info_nce", "bce", "wbce", "kl"])
def test_targets_of_every_loss_are_learnable_and_twice_differentiable(loss: LossName) -> None:
    images, texts = (side.requires_grad_() for side in random_sides())
    target = (0.9 * torch.eye(5, dtype=torch.float64) + 0.02).requires_grad_()

    def value(images: torch.Tensor, texts: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return contrastive_loss(images, texts, temperature=0.5, similarity=target, loss=loss)

    assert torch.autograd.gradcheck(value, (images, texts, target))
    assert torch.autograd.gradgradcheck(value, (images, texts, target))
