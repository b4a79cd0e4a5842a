"""Low-rank adapters: what they add, what is a parameter of the student then, and their derivatives."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.layers import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, set_fused_attn
from torch import nn

from engine.data.prepared import PreparedPairs
from engine.experts.train import ExpertRecipe, train_expert
from engine.io.paths import Paths
from engine.losses.matching import matching_losses
from engine.models.heads import build_head
from engine.models.image import mobilenetv1
from engine.models.image import timm as timm_adapter
from engine.models.lora import Lora, adapt, init_adapters, is_adapter
from engine.models.two_tower import TwoTower, make_tower
from engine.rng import forked, named_generator
from engine.tensors import Params
from engine.unroll import GRADIENTS, InnerBatch, Unroll
from tests.toys import TEXT_FEATURES

PIXELS = 32
MODELS = ["test_vit", "test_efficientnet", "test_nfnet", "test_convnext"]
"""A vision transformer; convolutions, some depthwise; weight-standardised convolutions; linear layers and both."""


def encoder(model: str = "test_vit") -> nn.Module:
    set_fused_attn(False)
    size = {"img_size": PIXELS} if "vit" in model else {}
    with forked(named_generator(0, model)):
        return timm.create_model(model, num_classes=0, **size).eval().requires_grad_(False)


def pixels(count: int = 3, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(count, 3, PIXELS, PIXELS, generator=named_generator(0, "pixels")).to(dtype)


def student(paths: Paths, *, lora: Lora | None = None, dtype: torch.dtype = torch.float32) -> TwoTower:
    """Return a student with adapters in a tiny vision transformer and a linear head on texts."""

    def build_encoder() -> nn.Module:
        return timm_adapter.build(paths, model="test_vit", pretrained=False, image_px=PIXELS).to(dtype)

    with forked(named_generator(0, "probe")):
        features = build_encoder().features
    image = make_tower(
        "image",
        build_encoder=build_encoder,
        build_head=lambda: build_head("linear", features=features, width=5).to(dtype),
        train="lora",
        pretrained=False,
        lora=lora or Lora(rank=2),
    )
    text = make_tower(
        "text",
        build_encoder=nn.Identity,
        build_head=lambda: build_head("linear", features=TEXT_FEATURES, width=5).to(dtype),
        train="frozen",
        pretrained=True,
    )
    return TwoTower(image, text, temperature=0.5)


def pairs(images: int = 12) -> PreparedPairs:
    random = np.random.default_rng(0)
    inputs = random.integers(0, 256, (images, 3, PIXELS, PIXELS), dtype=np.uint8)
    return PreparedPairs(inputs, random.normal(size=(images, TEXT_FEATURES)).astype(np.float32), np.arange(images))


def randomise(module: nn.Module, scale: float = 0.1) -> None:
    """Give every adapter in ``module`` an effect."""
    for name, value in module.named_parameters():
        if is_adapter(name):
            value.copy_(scale * torch.randn(value.shape, generator=named_generator(0, name)))


def adapted_layers(module: nn.Module) -> set[str]:
    return {name for name, layer in module.named_modules() if hasattr(layer, "lora_A")}


@pytest.mark.parametrize("model", MODELS)
def test_adapters_change_nothing_at_first(model: str) -> None:
    plain, adapted = encoder(model), adapt(encoder(model), Lora(), key="lora")
    assert adapted_layers(adapted)
    with torch.no_grad():
        expected = plain(pixels())
        assert torch.equal(adapted(pixels()), expected)
        drawn = init_adapters(adapted, named_generator(0, "adapters"))
        assert drawn.keys() == {name for name, _ in adapted.named_parameters() if is_adapter(name)}
        assert torch.equal(torch.func.functional_call(adapted, drawn, (pixels(),)), expected)
        assert all(value.abs().max() > 0 for name, value in drawn.items() if ".lora_A." in name)
        randomise(adapted)
        assert (adapted(pixels()) - expected).abs().max() > 0.1 * expected.abs().max()


@pytest.mark.parametrize("model", MODELS)
def test_merged_equals_unmerged(model: str) -> None:
    adapted = adapt(encoder(model), Lora(rank=3, alpha=6.0), key="lora").double()
    with torch.no_grad():
        randomise(adapted)
        expected = adapted(pixels(dtype=torch.float64))
        for layer in adapted.modules():
            if hasattr(layer, "lora_A"):
                layer.merge() if hasattr(layer, "merge") else merge_by_hand(layer)
        merged = adapted(pixels(dtype=torch.float64))
    torch.testing.assert_close(merged, expected, rtol=1e-5, atol=1e-5)


def merge_by_hand(layer: nn.Module) -> None:
    """Replace a standardised convolution by the plain one of its standardised weight and the low-rank update."""
    base, groups = layer.base_layer, layer.base_layer.groups
    a = layer.lora_A.weight.flatten(1).view(groups, -1, layer.lora_A.weight[0].numel())
    b = layer.lora_B.weight.flatten(1).view(groups, -1, layer.lora_B.weight.shape[1])
    update = (b @ a).reshape(base.weight.shape)
    weight = standardised(base) + layer.scale * update
    if hasattr(base, "same_pad"):
        layer.pads_itself = False
    layer.base_layer = Frozen(base, weight)
    layer.lora_B.weight.zero_()


class Frozen(nn.Module):
    """A convolution with a given weight."""

    def __init__(self, like: nn.Conv2d, weight: torch.Tensor) -> None:
        super().__init__()
        self.like, self.weight = like, weight

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        like = self.like
        given = (self.weight, like.bias, like.stride, like.padding, like.dilation, like.groups)
        return nn.functional.conv2d(inputs, *given)


def standardised(layer: nn.Conv2d) -> torch.Tensor:
    """Return the weight that a (weight-standardised) convolution applies."""
    if not hasattr(layer, "eps"):
        return layer.weight
    variance, mean = torch.var_mean(layer.weight, dim=(1, 2, 3), correction=0, keepdim=True)
    return (
        (layer.weight - mean) / (variance + layer.eps).sqrt() * getattr(layer, "gain", 1) * getattr(layer, "scale", 1)
    )


@pytest.mark.parametrize("kind", [StdConv2d, ScaledStdConv2d])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_standardised_weight_gets_the_update_itself(kind: Callable[..., nn.Conv2d], groups: int) -> None:
    with forked(named_generator(0, "conv")):
        net = nn.Sequential(kind(4, 6, 3, stride=2, groups=groups, bias=True)).double()
    inputs = torch.randn(2, 4, 9, 9, generator=named_generator(0, "inputs"), dtype=torch.float64)
    adapt(net, Lora(rank=2, alpha=3.0, targets=["0"]), key="lora")
    with torch.no_grad():
        randomise(net, scale=1.0)
        expected = net(inputs)
        merge_by_hand(net[0])
        torch.testing.assert_close(net(inputs), expected)


def test_an_adapter_pads_as_its_convolution_does() -> None:
    with forked(named_generator(0, "conv")):
        net = nn.Sequential(ScaledStdConv2dSame(4, 6, 3, stride=2))
    adapt(net, Lora(rank=2), key="lora")
    with torch.no_grad():
        randomise(net)
        inputs = torch.randn(2, 4, 10, 10, generator=named_generator(0, "inputs"))
        outside = torch.nn.functional.pad(inputs, (0, 1, 0, 1))
        own = net[0].lora_B(net[0].lora_A(outside)) * 4.0
        torch.testing.assert_close(net(inputs), net[0].base_layer(inputs) + own)


def test_defaults_leave_out_the_stem_grouped_convolutions_and_attention_that_reads_its_weights() -> None:
    assert adapted_layers(adapt(encoder(), Lora(), key="lora")) == {
        f"blocks.{block}.{name}" for block in range(6) for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    }
    net = adapt(encoder("test_efficientnet"), Lora(), key="lora")
    layers = [layer for layer in net.modules() if hasattr(layer, "lora_A")]
    assert {layer.base_layer.groups for layer in layers} == {1}
    assert min(layer.base_layer.in_channels for layer in layers) > 3
    block = nn.TransformerEncoderLayer(8, 2, dim_feedforward=12)
    assert adapted_layers(adapt(block, Lora(), key="lora")) == {"linear1", "linear2"}
    beit = timm.create_model("beit_base_patch16_224", num_classes=0, img_size=32, depth=1, embed_dim=48, num_heads=2)
    assert adapted_layers(adapt(beit, Lora(), key="lora")) == {
        f"blocks.0.{n}" for n in ("attn.proj", "mlp.fc1", "mlp.fc2")
    }


@pytest.mark.parametrize("model", MODELS)
def test_every_adapter_gets_a_gradient(model: str) -> None:
    net = adapt(encoder(model), Lora(rank=2), key="lora").double()
    with torch.no_grad():
        randomise(net)
    own = {name: value.requires_grad_() for name, value in net.named_parameters() if is_adapter(name)}
    weight = torch.randn(net.num_features, generator=named_generator(0, "weight"), dtype=torch.float64)
    gradients = torch.autograd.grad((net(pixels(dtype=torch.float64)) @ weight).square().sum(), list(own.values()))
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_parameters_are_adapters_and_head_alone(paths: Paths) -> None:
    given = student(paths)
    params = given.init_params(named_generator(0, "a"))
    image = {name for name in params if name.startswith("image.")}
    assert {name for name in image if not is_adapter(name)} == {"image.head.weight", "image.head.bias"}
    assert "image.encoder.backbone.blocks.0.attn.qkv.lora_A.default.weight" in image
    assert not any(value.requires_grad for value in given.image.trained.parameters())
    drawn = given.init_params(named_generator(1, "a"))
    changed = {name for name in params if not torch.equal(params[name], drawn[name])}
    assert {name for name in image if ".lora_A." in name} <= changed
    assert all(params[name].eq(0).all() for name in image if ".lora_B." in name)


def test_the_base_is_one_in_all_students_and_fresh_repeats(paths: Paths) -> None:
    before = torch.get_rng_state()
    first, second = student(paths), student(paths)
    assert torch.equal(torch.get_rng_state(), before)
    base = dict(second.image.trained.named_parameters())
    frozen = {n: v for n, v in first.image.trained.encoder.named_parameters() if not is_adapter(n)}
    assert frozen
    assert all(torch.equal(value, base[f"encoder.{name}"]) for name, value in frozen.items())
    params, again = first.init_params(named_generator(0, "a")), second.init_params(named_generator(0, "a"))
    assert all(torch.equal(value, again[name]) for name, value in params.items())


def test_a_trajectory_holds_adapters_and_head_and_moves_them(paths: Paths) -> None:
    given = student(paths)
    base = {name: value.clone() for name, value in given.image.trained.named_parameters()}
    recipe = ExpertRecipe(batch_size=8)
    snapshots = dict(train_expert(given, pairs(), seed=0, name="expert/0", epochs=2, recipe=recipe))
    for params in snapshots.values():
        encoder_names = [name for name in params if name.startswith("image.encoder.")]
        assert encoder_names
        assert all(is_adapter(name) for name in encoder_names)
    moved = [n for n in snapshots[0] if not torch.equal(snapshots[0][n], snapshots[2][n])]
    assert set(moved) == set(snapshots[0])
    assert all(torch.equal(value, base[name]) for name, value in given.image.trained.named_parameters())


def unroll(paths: Paths) -> Unroll:
    """Return three steps of a student with adapters in float64, away from where B is zero."""
    given = student(paths, dtype=torch.float64)
    generator = named_generator(0, "unroll")
    start: Params = {}
    for name, value in given.init_params(generator).items():
        start[name] = value + 0.1 * torch.randn(value.shape, generator=generator, dtype=torch.float64)
    target = {
        name: value + 0.1 * torch.randn(value.shape, generator=generator, dtype=torch.float64)
        for name, value in start.items()
    }
    data = {
        "images": torch.rand(5, 3, PIXELS, PIXELS, generator=generator, dtype=torch.float64),
        "texts": torch.randn(5, TEXT_FEATURES, generator=generator, dtype=torch.float64),
    }

    def loss(params: dict, data: dict, draw: InnerBatch) -> torch.Tensor:
        return given.loss(params, data["images"][draw.pairs], data["texts"][draw.pairs])

    learning_rates = {"image": torch.tensor(0.3, dtype=torch.float64), "text": torch.tensor(0.2, dtype=torch.float64)}
    draws = [InnerBatch(torch.randperm(5, generator=generator)[:4]) for _ in range(3)]
    return Unroll(loss, start, partial(matching_losses, start=start, target=target), data, learning_rates, draws)


def test_the_exact_gradient_is_the_stored_one(paths: Paths) -> None:
    problem = unroll(paths)
    exact, stored = (GRADIENTS[name](problem) for name in ("exact", "stored"))
    for name in problem.data:
        assert stored.data[name].abs().max() > 0
        torch.testing.assert_close(exact.data[name], stored.data[name], rtol=1e-9, atol=1e-12)
    for modality in problem.learning_rates:
        torch.testing.assert_close(
            exact.learning_rates[modality], stored.learning_rates[modality], rtol=1e-9, atol=1e-12
        )


def test_alpha_over_rank_scales_the_update() -> None:
    inputs = pixels()
    moves = []
    for alpha in (2.0, 4.0):
        net = adapt(nn.Sequential(nn.Flatten(), nn.Linear(3 * PIXELS**2, 2)), Lora(rank=2, alpha=alpha), key="lora")
        with torch.no_grad():
            randomise(net)
            moves.append(net(inputs) - net[1].base_layer(inputs.flatten(1)))
    torch.testing.assert_close(moves[1], 2 * moves[0])


@pytest.mark.parametrize(
    ("build", "lora", "told"),
    [
        (encoder, Lora(targets=["qvk"]), r"lora\.targets: there is no layer 'qvk', expected .*fc1, fc2, proj, qkv\.$"),
        (encoder, Lora(targets=["norm1"]), r"lora\.targets: 'blocks\.0\.norm1' is a LayerNorm, expected a linear"),
        (
            partial(nn.TransformerEncoderLayer, 8, 2),
            Lora(targets=["out_proj"]),
            r"lora\.targets: 'self_attn\.out_proj' lies in a MultiheadAttention that reads its .* wrong gradient",
        ),
        (
            partial(encoder, "test_efficientnet"),
            Lora(rank=3, targets=["conv_dw"]),
            r"lora\.rank: 3 is not a multiple of the \d+ groups of 'blocks\.\d\.\d\.conv_dw', expected one",
        ),
        (partial(nn.Sequential, nn.ReLU()), Lora(), r"lora: Sequential has no linear layer and no plain convolution"),
    ],
)  # fmt: skip
def test_what_cannot_be_adapted_is_refused_in_a_sentence(build: Callable[[], nn.Module], lora: Lora, told: str) -> None:
    with pytest.raises(ValueError, match=rf"^student\.image\.{told}") as error:
        adapt(build(), lora, key="student.image.lora")
    assert "\n" not in str(error.value)


def test_a_target_is_the_end_of_a_dotted_name() -> None:
    net = adapt(encoder(), Lora(targets=["qkv", "0.mlp.fc1"]), key="lora")
    assert adapted_layers(net) == {*(f"blocks.{block}.attn.qkv" for block in range(6)), "blocks.0.mlp.fc1"}


def test_a_pretrained_mobilenet_is_adapted_at_its_pointwise_convolutions(weights: Path, paths: Paths) -> None:
    there = Paths(data=paths.data, weights=weights, cache=paths.cache)
    net = mobilenetv1.build(there, weights="mobilenetv1_025_imagenet.safetensors")
    with torch.no_grad():
        before = net(pixels())
        adapt(net, Lora(), key="lora")
        assert torch.equal(net(pixels()), before)
        assert {name.rpartition(".")[2] for name in adapted_layers(net)} == {"conv_pw"}
        randomise(net)
        expected = net(pixels())
        assert (expected - before).abs().max() > 0.1
        for layer in net.modules():
            if hasattr(layer, "lora_A"):
                layer.merge()
        torch.testing.assert_close(net(pixels()), expected, rtol=1e-5, atol=1e-5)
