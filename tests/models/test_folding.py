"""Batch norms folded into convolutions: the same features, and nothing changed where that would not hold."""

import timm
import torch
from torch import nn

from engine.io.paths import Paths
from engine.models.folding import folded
from engine.models.image.convnet import build


def spread(encoder: nn.Module) -> nn.Module:
    """Give every batch norm statistics of its own, as training does."""
    generator = torch.Generator().manual_seed(1)
    for norm in encoder.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.uniform_(-0.5, 0.5, generator=generator)
            norm.running_var.uniform_(0.5, 2.0, generator=generator)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
    return encoder.eval().requires_grad_(False)


def norms(encoder: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())


def test_a_folded_encoder_has_the_same_features_and_gradients_and_no_batch_norm() -> None:
    torch.manual_seed(0)
    encoder = spread(timm.create_model("tf_efficientnet_lite0", num_classes=0))
    less = folded(encoder, 64)
    assert norms(encoder) == 49
    assert norms(less) == 0
    pixels = torch.rand(3, 3, 64, 64, requires_grad=True)
    torch.testing.assert_close(less(pixels), encoder(pixels), rtol=1e-4, atol=1e-4)
    gradients = [torch.autograd.grad(one(pixels).square().sum(), pixels)[0] for one in (less, encoder)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)


def test_an_encoder_whose_children_run_in_another_order_stays_as_it_is() -> None:
    class NormFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 3, 3)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.convolution(self.norm(pixels)).mean(dim=(2, 3))

    encoder = spread(NormFirst())
    assert folded(encoder, 8) is encoder
    assert norms(encoder) == 1


def test_an_encoder_without_batch_norm_stays_as_it_is(paths: Paths) -> None:
    encoder = build(paths)
    assert folded(encoder, 16) is encoder
