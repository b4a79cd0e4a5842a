"""Heads against their formula."""

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu, layer_norm

from engine.models.heads import ResidualMLP, build_head
from engine.rng import forked, named_generator


def test_the_mlp_is_the_projection_plus_a_mix_of_it_normalised() -> None:
    with forked(named_generator(0, "head")):
        head = build_head("mlp", features=6, width=4).double()
        features = torch.randn(3, 6).double()
    assert isinstance(head, ResidualMLP)
    projected = features @ head.project.weight.T + head.project.bias
    mixed = gelu(projected) @ head.mix.weight.T + head.mix.bias
    torch.testing.assert_close(head(features), layer_norm(projected + mixed, (4,)))


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_a_head_gives_the_shared_width_without_drawing(name: str) -> None:
    head = build_head(name, features=6, width=4)
    features = torch.ones(3, 6)
    assert head(features).shape == (3, 4)
    assert torch.equal(head.train()(features), head.eval()(features))


def test_a_linear_head_is_affine() -> None:
    head = build_head("linear", features=6, width=4)
    assert {name: tuple(value.shape) for name, value in head.named_parameters()} == {"weight": (4, 6), "bias": (4,)}


def test_no_head_passes_features_through_where_they_fit() -> None:
    features = torch.ones(2, 4)
    head = build_head("none", features=4, width=4)
    assert isinstance(head, nn.Identity)
    assert head(features) is features
    with pytest.raises(ValueError, match=r"^head: 'none' needs an encoder of embed_dim = 4 features, .* has 6\.$"):
        build_head("none", features=6, width=4)
