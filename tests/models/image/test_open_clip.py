"""The image tower of a CLIP: its weights, its normalisation, its attention, and its adapters."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine.io.paths import Paths
from engine.models.image import open_clip as adapter
from engine.models.lora import Lora, adapt, is_adapter
from engine.rng import named_generator
from tests.models.clips import NAME, register_tiny_clip, save_tiny_clip


@pytest.fixture
def clip(paths: Paths) -> Paths:
    save_tiny_clip(paths.weights / NAME)
    return paths


def pixels(side: int = 32, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=named_generator(0, "pixels"), dtype=dtype)


@pytest.mark.parametrize("name", [NAME, f"hf-hub:someone/{NAME}"])
def test_a_folder_of_the_models_name_is_used(clip: Paths, name: str) -> None:
    encoder = adapter.build(clip, model=name)
    saved = load_file(clip.weights / NAME / "open_clip_model.safetensors")
    own = encoder.backbone.tower.state_dict()
    assert {f"visual.{key}" for key in own} == {key for key in saved if key.startswith("visual.")}
    assert all(torch.equal(value, saved[f"visual.{key}"]) for key, value in own.items())
    assert encoder.pretrained
    assert encoder.features == 12
    assert encoder.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert encoder.std.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])


def test_a_file_of_weights_is_used(clip: Paths, tmp_path: Path) -> None:
    register_tiny_clip(tmp_path)
    file = (clip.weights / NAME / "open_clip_model.safetensors").rename(tmp_path / "clip.safetensors")
    (clip.weights / NAME / "open_clip_config.json").unlink()
    encoder = adapter.build(clip, model=NAME, weights=str(file))
    assert encoder.pretrained
    assert torch.equal(encoder.backbone.tower.proj, load_file(file)["visual.proj"])


def test_another_size_of_image_keeps_the_weights(clip: Paths) -> None:
    encoder = adapter.build(clip, model=NAME, image_px=48)
    with torch.no_grad():
        assert encoder(pixels(48)).shape == (2, 12)
    assert len(encoder.backbone.tower.positional_embedding) == 1 + 3 * 3
    assert encoder.pretrained


def test_adapters_default_to_the_mlp_and_pass_second_order(clip: Paths) -> None:
    net = adapt(adapter.build(clip, model=NAME).double(), Lora(rank=2), key="lora")
    adapters = {name: value for name, value in net.named_parameters() if is_adapter(name)}
    layers = {name.partition(".lora_")[0].rpartition("resblocks.")[2] for name in adapters}
    assert layers == {f"{block}.mlp.{layer}" for block in (0, 1) for layer in ("c_fc", "c_proj")}
    with torch.no_grad():
        for name, value in adapters.items():
            value.copy_(0.1 * torch.randn(value.shape, generator=named_generator(0, name)))
    images = pixels(dtype=torch.float64).requires_grad_()
    shift = 1e-6 * torch.randn(images.shape, generator=named_generator(0, "shift"), dtype=torch.float64)
    wanted = [value.requires_grad_() for value in adapters.values()]

    def slope(at: torch.Tensor) -> torch.Tensor:
        gradients = torch.autograd.grad(net(at).square().sum(), wanted, create_graph=True)
        assert all(gradient.abs().max() > 0 for gradient in gradients)
        return sum(gradient.sum() for gradient in gradients)

    (mixed,) = torch.autograd.grad(slope(images), images)
    numeric = (slope(images + shift) - slope(images - shift)).item() / 2
    assert (mixed * shift).sum().item() == pytest.approx(numeric, rel=1e-5)


def test_attention_cannot_be_adapted(clip: Paths) -> None:
    told = r"^student\.image\.lora\.targets: '.*attn\.out_proj' lies in a MultiheadAttention"
    with pytest.raises(ValueError, match=told):
        adapt(adapter.build(clip, model=NAME), Lora(targets=["out_proj"]), key="student.image.lora")


def test_building_is_quiet(clip: Paths, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    adapter.build(clip, model=NAME)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": "ViT-B-31"}, r"model: open_clip knows no model 'ViT-B-31' \(see"),
        (
            {"model": "ViT-B-32", "pretrained": "laion3b"},
            r"pretrained: ViT-B-32 has no weights 'laion3b', expected one of openai, ",
        ),
        ({"model": "ViT-B-32", "pretrained": "openai", "weights": "a.safetensors"}, r"weights: .* expected one\.$"),
        ({"model": NAME, "weights": "weights.bin"}, r"weights: expected a safetensors file, found 'weights\.bin'"),
        ({"model": NAME, "weights": "other.safetensors"}, r"model: 'tiny-clip' could not be built with its weights"),
    ],
)
def test_what_cannot_be_built_is_told_in_a_sentence(clip: Paths, options: dict, told: str) -> None:
    (clip.weights / "weights.bin").write_bytes(b"")
    (clip.weights / "other.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=rf"^student\.image\.{told}") as error:
        adapter.build(clip, **options)
    assert "\n" not in str(error.value)


def test_a_folder_without_safetensors_is_refused(clip: Paths) -> None:
    (clip.weights / NAME / "open_clip_model.safetensors").rename(clip.weights / NAME / "open_clip_pytorch_model.bin")
    with pytest.raises(ValueError, match=rf"{NAME}: expected a safetensors file with the weights of the CLIP"):
        adapter.build(clip, model=NAME)


def test_a_missing_file_is_named_with_its_variable(clip: Paths) -> None:
    with pytest.raises(FileNotFoundError, match=r"^student\.image\.weights: 'absent\.safetensors' .*VLDD_WEIGHTS"):
        adapter.build(clip, model=NAME, weights="absent.safetensors")
