"""Low-rank adapters (arXiv 2106.09685) inside an encoder that otherwise stays as it is."""

import math
import re
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engine.recipes import Lora
from engine.rng import forked, named_generator
from engine.tensors import Params

_OF_PARTS = re.compile(r"\.lora_[AB]\.")


class ConvolutionWithAdapter(nn.Module):
    """A convolution of any kind plus a plain low-rank one beside it, which adds to the weight that is applied.

    peft makes the adapter from the class of its layer. Of a weight-standardised convolution that is a standardised
    adapter, which moves the output by per cents however small B is; of a grouped or dilated one it is no update of
    the weight. Here A and B are plain: the low-rank product is added to the *standardised* weight, group by group.
    """

    def __init__(self, layer: nn.Conv2d, *, rank: int, alpha: float) -> None:
        super().__init__()
        inside, groups = layer.in_channels, layer.groups
        kernel, stride, padding, dilation = (
            cast(tuple[int, int], given) for given in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        )
        self.base_layer = layer
        self.lora_A = nn.Conv2d(inside, rank, kernel, stride, padding, dilation, groups, bias=False).to(layer.weight)
        self.lora_B = nn.Conv2d(rank, layer.out_channels, 1, groups=groups, bias=False).to(layer.weight)
        self.scale = alpha / rank
        self.pads_itself = _pads_itself(layer)

    def forward(self, inputs: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f i j"]:
        padded = _same_padded(self.lora_A, inputs) if self.pads_itself else inputs
        return cast(Tensor, self.base_layer(inputs)) + self.scale * self.lora_B(self.lora_A(padded))


def adapt(encoder: nn.Module, lora: Lora, *, key: str) -> nn.Module:
    """Put adapters beside the target layers of ``encoder``, in place, and return it; what it computes stays the same.

    Raises:
        ValueError: a target is not there, is no linear layer or convolution, or cannot be adapted rightly; ``key`` is
            the section of the configuration that is named.
    """
    chosen = _default_targets(encoder) if lora.targets is None else _named_targets(encoder, lora, key)
    if not chosen:
        raise ValueError(f"{key}: {type(encoder).__name__} has no linear layer and no plain convolution to adapt.")
    own = {name: layer for name, layer in chosen.items() if not _peft_is_right(layer)}
    for name, layer in own.items():
        with forked(named_generator(0, name)):  # overwritten by fresh_adapters, but constructing draws
            encoder.set_submodule(
                name, ConvolutionWithAdapter(cast(nn.Conv2d, layer), rank=lora.rank, alpha=lora.alpha)
            )
    _inject(encoder, [name for name in chosen if name not in own], lora)
    with torch.no_grad():
        for name, value in encoder.named_parameters():
            if is_adapter(name) and ".lora_B." in name:
                value.zero_()
    return encoder


def is_adapter(name: str) -> bool:
    """Whether a parameter of an encoder belongs to an adapter."""
    return _OF_PARTS.search(name) is not None


def init_adapters(encoder: nn.Module, generator: torch.Generator) -> Params:
    """Return new values of the adapters in ``encoder``, on the CPU: A uniform as in a fresh layer, B zero.

    References:
        arXiv 2106.09685, section 4.1; the bounds of A are those of the paper's code.
    """
    adapters = {name: value for name, value in encoder.named_parameters() if is_adapter(name)}
    drawn = {name: torch.zeros_like(value, device="cpu") for name, value in adapters.items()}
    for name, value in drawn.items():
        if ".lora_A." in name:
            nn.init.kaiming_uniform_(value, a=math.sqrt(5), generator=generator)
    return drawn


def _inject(encoder: nn.Module, names: Sequence[str], lora: Lora) -> None:
    """Let peft wrap exactly the layers ``names``."""
    if not names:
        return
    from peft import LoraConfig, inject_adapter_in_model

    exactly = "|".join(map(re.escape, names))
    config = LoraConfig(r=lora.rank, lora_alpha=cast(int, lora.alpha), target_modules=exactly, lora_dropout=0.0)
    with forked(named_generator(0, "lora")):  # overwritten by fresh_adapters, but constructing draws
        inject_adapter_in_model(config, encoder)


def _default_targets(encoder: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that are adapted where the configuration names none."""
    layers = dict(encoder.named_modules())
    return {
        name: layer
        for name, layer in layers.items()
        if _adaptable(layer) and not _weight_is_read(layers, name) and not _grouped(layer) and not _reads_pixels(layer)
    }


def _named_targets(encoder: nn.Module, lora: Lora, key: str) -> dict[str, nn.Module]:
    """Return the layers that ``lora.targets`` names, each checked."""
    layers, chosen = dict(encoder.named_modules()), {}
    for target in lora.targets or ():
        found = [name for name in layers if name == target or name.endswith(f".{target}")]
        if not found:
            known = sorted({name.rpartition(".")[2] for name in _default_targets(encoder)})
            raise ValueError(f"{key}.targets: there is no layer {target!r}, expected names such as {', '.join(known)}.")
        for name in found:
            _check_target(layers, name, lora, key)
            chosen[name] = layers[name]
    return chosen


def _check_target(layers: dict[str, nn.Module], name: str, lora: Lora, key: str) -> None:
    """Refuse a layer that an adapter would not work on."""
    layer = layers[name]
    if _weight_is_read(layers, name):
        raise ValueError(
            f"{key}.targets: {name!r} lies in a {type(layers[name.rpartition('.')[0]]).__name__} that reads its weight "
            "instead of calling it, so an adapter there gets a wrong gradient or none; name the linear layers of the "
            "MLP, or leave targets out."
        )
    if not _adaptable(layer):
        raise ValueError(f"{key}.targets: {name!r} is a {type(layer).__name__}, expected a linear layer or a Conv2d.")
    if _grouped(layer) and lora.rank % cast(nn.Conv2d, layer).groups:
        raise ValueError(
            f"{key}.rank: {lora.rank} does not divide by the {cast(nn.Conv2d, layer).groups} groups of {name!r}, "
            "expected a multiple of them, or targets without this layer."
        )


def _adaptable(layer: nn.Module) -> bool:
    """Whether the layer is linear, or a convolution whose adapter we know how to build."""
    return type(layer) is nn.Linear or (isinstance(layer, nn.Conv2d) and _known(layer))


def _known(layer: nn.Conv2d) -> bool:
    """Whether a convolution applies a weight of its own size with zeros around the image."""
    from timm.layers import Conv2dSame, ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame

    kinds = (nn.Conv2d, Conv2dSame, StdConv2d, StdConv2dSame, ScaledStdConv2d, ScaledStdConv2dSame)
    return type(layer) in kinds and layer.padding_mode == "zeros"


def _peft_is_right(layer: nn.Module) -> bool:
    """Whether peft's adapter of this layer is an update of the weight that the layer applies."""
    from timm.layers import Conv2dSame

    if not isinstance(layer, nn.Conv2d):
        return True
    return type(layer) in (nn.Conv2d, Conv2dSame) and layer.groups == 1 and set(layer.dilation) == {1}


def _weight_is_read(layers: dict[str, nn.Module], name: str) -> bool:
    """Whether the module around a layer takes its weight and never calls it.

    Known are torch's attention, that of BEiT, EVA and Swin V2 in timm, and the attention pooling of open_clip.
    """
    parent = layers.get(name.rpartition(".")[0])
    if isinstance(parent, nn.MultiheadAttention) or type(parent).__name__ == "AttentionPool2d":
        return True
    return name.endswith(".qkv") and getattr(parent, "q_bias", None) is not None


def _grouped(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups > 1


def _reads_pixels(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.in_channels == 3


def _pads_itself(layer: nn.Conv2d) -> bool:
    """Whether a convolution pads as TensorFlow does, by an amount that depends on the size of its input."""
    from timm.layers import Conv2dSame

    return isinstance(layer, Conv2dSame) or bool(getattr(layer, "same_pad", False))


def _same_padded(layer: nn.Conv2d, inputs: Tensor) -> Tensor:
    """Return ``inputs`` with the zeros around them that keep their size under a stride of one."""
    from timm.layers import pad_same

    return cast(Tensor, pad_same(inputs, list(layer.kernel_size), list(layer.stride), list(layer.dilation)))
