"""MobileNetV1: its real weights, and files that are not."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.io.paths import Paths
from engine.models.image import mobilenetv1
from engine.rng import named_generator

NAME = "mobilenetv1_025_imagenet.safetensors"


def below(weights: Path) -> Paths:
    return Paths(data=weights / "none", weights=weights, cache=weights / "none")


def pixels() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=named_generator(0, "pixels"))


def test_real_weights_are_loaded_whole(weights: Path) -> None:
    encoder = mobilenetv1.build(below(weights), width=0.25, weights=NAME)
    own = {name: v for name, v in encoder.backbone.state_dict().items() if not name.endswith("num_batches_tracked")}
    file = {name: v for name, v in load_file(weights / NAME).items() if not name.endswith("num_batches_tracked")}
    assert own.keys() == file.keys()
    assert all(torch.equal(value, file[name]) for name, value in own.items())
    assert encoder.pretrained
    assert sum(value.numel() for value in encoder.parameters()) == pytest.approx(213e3, rel=0.01)


def test_real_weights_are_of_the_batch_norm_built_here(weights: Path) -> None:
    # They were folded into the convolutions: mean 0 and variance 1 - eps, so that batch norm only adds its bias.
    encoder = mobilenetv1.build(below(weights), width=0.25, weights=NAME)
    norms = [module for module in encoder.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 27
    for norm in norms:
        torch.testing.assert_close(norm.running_var + norm.eps, torch.ones_like(norm.running_var), rtol=0, atol=2e-7)
        assert norm.running_mean.eq(0).all()
        assert norm.weight.eq(1).all()


def test_features_are_256_of_pixels_brought_to_minus_one_to_one(weights: Path) -> None:
    encoder = mobilenetv1.build(below(weights), width=0.25, weights=NAME)
    with torch.no_grad():
        features = encoder(pixels())
        torch.testing.assert_close(features, encoder.backbone(2 * pixels() - 1))
    assert encoder.features == 256
    assert features.shape == (2, 256)
    assert 0 <= features.min() < features.max() <= 6  # a ReLU6, then a mean


def test_another_widths_weights_are_refused_before_any_is_loaded(weights: Path) -> None:
    other = "mobilenetv1_050_imagenet.safetensors"
    with pytest.raises(
        ValueError, match=rf"{other}: expected the weights of this encoder, but \d+ tensors differ"
    ) as e:
        mobilenetv1.build(below(weights), width=0.25, weights=other)
    assert "\n" not in str(e.value)


def test_a_missing_file_is_named_with_its_variable(paths: Paths) -> None:
    with pytest.raises(FileNotFoundError, match=r"^student\.image\.weights: 'absent\.safetensors' .*VLDD_WEIGHTS.*\.$"):
        mobilenetv1.build(paths, weights="absent.safetensors")


@pytest.mark.parametrize("data", [b"", b"no safetensors at all", b"\xff" * 64])
def test_a_damaged_file_is_named(paths: Paths, data: bytes) -> None:
    paths.weights.mkdir()
    (paths.weights / "net.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=r"net\.safetensors: expected safetensors weights of this encoder") as error:
        mobilenetv1.build(paths, weights="net.safetensors")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", ["missing", "more"])
def test_a_file_of_other_tensors_names_the_first(paths: Paths, change: str) -> None:
    state = mobilenetv1.build(paths).backbone.state_dict()
    if change == "missing":
        del state["conv_stem.weight"]
    else:
        state["a.classifier"] = torch.zeros(1)
    paths.weights.mkdir()
    save_file(state, paths.weights / "net.safetensors")
    named = {"missing": r"conv_stem\.weight", "more": r"a\.classifier"}[change]
    with pytest.raises(ValueError, match=rf"1 tensors differ \({named}\.\.\.\)\.$"):
        mobilenetv1.build(paths, weights="net.safetensors")
