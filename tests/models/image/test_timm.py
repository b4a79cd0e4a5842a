"""Models of timm by their name there."""

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import use_fused_attn

from engine.io.paths import Paths
from engine.models.image import ImageEncoder, checked, convnet
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


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda name: None if "blocks.1.0" in name else name, r"found none of blocks\.1\.0\."),
        (lambda name: f"other.{name}", r"found none of blocks\."),
        (lambda name: name.replace("blocks.1.", "blocks.9."), r"found none of blocks\.1\."),
    ],
)
def test_weights_that_timm_would_draw_anew_are_refused(
    change: Callable[[str], str | None], expected: str, paths: Paths
) -> None:
    state = timm.create_model("test_efficientnet", pretrained=False).state_dict()
    folder = paths.weights / "test_efficientnet"
    folder.mkdir(parents=True)
    save_file({new: value for name, value in state.items() if (new := change(name))}, folder / "model.safetensors")
    with pytest.raises(
        ValueError, match=rf"^student\.image\.model: 'test_efficientnet' cannot be used, {folder}: .*{expected}"
    ):
        adapter.build(paths, model="test_efficientnet")


def test_weights_of_more_layers_than_the_model_has_are_refused(paths: Paths) -> None:
    state = timm.create_model("test_efficientnet", pretrained=False).state_dict()
    folder = paths.weights / "test_efficientnet"
    folder.mkdir(parents=True)
    save_file({**state, "blocks.9.weight": torch.ones(1)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"^student\.image\.model: .* which has no blocks\.9\.weight\.$"):
        adapter.build(paths, model="test_efficientnet")


@pytest.mark.parametrize("text", ["version https://git-lfs.github.com/spec/v1\n", ""])
def test_damaged_weights_are_named(text: str, paths: Paths) -> None:
    folder = paths.weights / "test_efficientnet"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(text)
    with pytest.raises(
        ValueError, match=rf"^student\.image\.model: the weights of 'test_eff.* from {folder} \(.*header"
    ):
        adapter.build(paths, model="test_efficientnet")
    with pytest.raises(ValueError, match=r"^student\.image\.weights: .*model\.safetensors' cannot be used, .*header"):
        adapter.build(paths, model="test_efficientnet", weights=str(folder / "model.safetensors"))


def sized(paths: Paths, model: str, pixels: int, image_px: int | None = None) -> ImageEncoder:
    encoder = adapter.build(paths, model=model, pretrained=False, image_px=image_px)
    return checked(encoder, pixels, name="timm", options={"model": model, "image_px": image_px})


def test_a_model_of_one_size_of_image_is_told_the_option(paths: Paths) -> None:
    assert sized(paths, "vit_tiny_patch16_224", 32, 32).features
    sentence = (
        r"^student\.image\.image_px: timm vit_tiny_patch16_224 .* cannot read images of data\.image_px = 32 \(Input "
        r"height \(32\) doesn't match model \(\d+\)\), expected student\.image\.image_px: 32, or images of another"
    )
    for image_px in (None, 64):
        with pytest.raises(ValueError, match=sentence):
            sized(paths, "vit_tiny_patch16_224", 32, image_px)
    with pytest.raises(
        ValueError, match=r"^data\.image_px: .* cannot read images .* = 7 .*, expected larger images\.$"
    ):
        sized(paths, "vit_tiny_patch16_224", 7, 7)


def test_images_that_are_too_small_are_named(paths: Paths) -> None:
    with pytest.raises(
        ValueError, match=r"^data\.image_px: convnet .* data\.image_px = 8 \(.*\), expected larger images"
    ):
        checked(convnet.build(paths, depth=5), 8, name="convnet", options={"depth": 5})


def test_an_encoder_gives_what_it_says(paths: Paths) -> None:
    encoder = convnet.build(paths)
    encoder.features = 7
    with pytest.raises(ValueError, match=r"^student\.image\.encoder: convnet gives .* expected 7 finite features"):
        checked(encoder, 32, name="convnet", options={})
