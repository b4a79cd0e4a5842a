"""Models of timm by their name there."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import use_fused_attn

from engine.io.paths import Paths
from engine.models.image import timm as adapter
from engine.rng import forked, named_generator


@pytest.mark.parametrize("model", ["test_vit", "mobilenetv3_small_050", "test_mambaout"])
def test_features_are_counted_behind_the_models_own_head(model: str, paths: Paths) -> None:
    encoder = adapter.build(paths, model=model, pretrained=False)
    side = timm.get_pretrained_cfg(model).input_size[-1]
    with torch.no_grad():
        assert encoder(torch.rand(1, 3, side, side)).shape == (1, encoder.features)


def test_attention_is_not_fused_so_that_it_has_a_second_derivative(paths: Paths) -> None:
    with forked(named_generator(0, "vit")):
        encoder = adapter.build(paths, model="test_vit", pretrained=False)
    assert not use_fused_attn()
    pixels = torch.rand(2, 3, 160, 160, generator=named_generator(0, "pixels")).requires_grad_()
    weight = encoder.backbone.blocks[0].attn.qkv.weight
    (gradient,) = torch.autograd.grad(encoder(pixels).square().sum(), weight, create_graph=True)
    (mixed,) = torch.autograd.grad(gradient.square().sum(), pixels)
    assert mixed.isfinite().all()
    assert mixed.abs().max() > 0


def test_normalises_as_the_models_configuration_says(paths: Paths) -> None:
    encoder = adapter.build(paths, model="resnet18", pretrained=False)
    assert encoder.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert encoder.std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])


@pytest.mark.parametrize("model", ["test_efficientnet", "timm/test_efficientnet.r160_in1k"])
def test_weights_in_a_folder_of_the_models_name_are_used(model: str, paths: Paths) -> None:
    with forked(named_generator(0, "weights")):
        original = timm.create_model("test_efficientnet", pretrained=False).eval()
    folder = paths.weights / model.removeprefix("timm/")
    folder.mkdir(parents=True)
    save_file(original.state_dict(), folder / "model.safetensors")
    encoder = adapter.build(paths, model=model)
    assert encoder.pretrained
    pixels = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected = original.forward_head(original.forward_features(pixels), pre_logits=True)
        torch.testing.assert_close(encoder.backbone(pixels), expected)


def test_weights_of_a_file_are_those_of_the_headless_model(paths: Paths, tmp_path: Path) -> None:
    with forked(named_generator(0, "weights")):
        original = timm.create_model("test_efficientnet", pretrained=False, num_classes=0)
    save_file(original.state_dict(), tmp_path / "net.safetensors")
    encoder = adapter.build(paths, model="test_efficientnet", weights=str(tmp_path / "net.safetensors"))
    assert encoder.pretrained
    loaded = encoder.backbone.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in original.state_dict().items())


def test_an_unknown_model_is_named(paths: Paths) -> None:
    with pytest.raises(ValueError, match=r"^student\.image\.model: timm .* knows no model 'resnet17' .*\.$"):
        adapter.build(paths, model="resnet17")


def test_weights_that_are_not_there_say_what_to_do(paths: Paths) -> None:
    (paths.weights / "test_efficientnet").mkdir(parents=True)
    with pytest.raises(
        ValueError, match=r"^student\.image\.model: the weights of 'test_efficientnet' .*pretrained: false"
    ):
        adapter.build(paths, model="test_efficientnet")


def test_a_transformer_is_built_for_another_size_of_image(paths: Paths) -> None:
    encoder = adapter.build(paths, model="test_vit", pretrained=False, image_px=32)
    with torch.no_grad():
        assert encoder(torch.rand(1, 3, 32, 32)).shape == (1, encoder.features)


def test_a_convolutional_network_has_no_size_of_image(paths: Paths) -> None:
    with pytest.raises(
        ValueError, match=r"^student\.image\.image_px: resnet18 takes images of any size, expected null"
    ):
        adapter.build(paths, model="resnet18", pretrained=False, image_px=32)
