"""Low-rank adapters (arXiv 2106.09685) inside an encoder whose own weights stay as they are."""

import math
import re
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engine.recipes import Lora
from engine.rng import forked, named_generator
from engine.tensors import Params


class ConvolutionWithAdapter(nn.Module):
    """A convolution of any kind and a plain low-rank one beside it, which adds to the weight that is applied.

    peft builds the adapter from the class of its layer. For a weight-standardised convolution that is a standardised
    adapter, which moves the output by percents however small B is; for a grouped or dilated one it is no update of
    the weight. Here A and B are plain: the low-rank product is added to the *standardised* weight, group by group.
    """

    def __init__(self, layer: nn.Conv2d, *, rank: int, alpha: float) -> None:
        from timm.layers import Conv2dSame

        super().__init__()
        inside, groups = layer.in_channels, layer.groups
        kernel, stride, padding, dilation = (
            cast(tuple[int, int], given) for given in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        )
        self.base_layer = layer
        self.lora_A = nn.Conv2d(inside, rank, kernel, stride, padding, dilation, groups, bias=False).to(layer.weight)
        self.lora_B = nn.Conv2d(rank, layer.out_channels, 1, groups=groups, bias=False).to(layer.weight)
        self.scale = alpha / rank
        self.pads_itself = isinstance(layer, Conv2dSame) or bool(getattr(layer, "same_pad", False))
        """The layer pads as TensorFlow does, by an amount that depends on the size of its input."""

    def forward(self, inputs: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f i j"]:
        from timm.layers import pad_same

        a, padded = self.lora_A, inputs
        if self.pads_itself:
            padded = cast(Tensor, pad_same(inputs, list(a.kernel_size), list(a.stride), list(a.dilation)))
        return cast(Tensor, self.base_layer(inputs)) + self.scale * self.lora_B(a(padded))


def adapt(encoder: nn.Module, lora: Lora, *, key: str) -> nn.Module:
    """Insert adapters beside the target layers of ``encoder``, in place, and return it; its output does not change.

    Raises:
        ValueError: a target does not exist, is no linear layer or convolution, or cannot be adapted correctly; the
            message names ``key``, a section of the configuration.
    """
    chosen = _default_targets(encoder) if lora.targets is None else _named_targets(encoder, lora, key)
    if not chosen:
        raise ValueError(f"{key}: {type(encoder).__name__} has no linear layer and no plain convolution to adapt.")
    of_peft = [name for name, layer in chosen.items() if _peft_is_right(layer)]
    own = {name: cast(nn.Conv2d, layer) for name, layer in chosen.items() if name not in of_peft}
    with forked(named_generator(0, "lora")):  # what is drawn here is overwritten by init_adapters
        for name, layer in own.items():
            encoder.set_submodule(name, ConvolutionWithAdapter(layer, rank=lora.rank, alpha=lora.alpha))
        if of_peft:
            from peft import LoraConfig, inject_adapter_in_model

            exactly = "|".join(map(re.escape, of_peft))
            alpha = cast(int, lora.alpha)
            config = LoraConfig(r=lora.rank, lora_alpha=alpha, target_modules=exactly, lora_dropout=0.0)
            inject_adapter_in_model(config, encoder)
    with torch.no_grad():
        for name, value in encoder.named_parameters():
            if is_adapter(name) and ".lora_B." in name:
                value.zero_()
    return encoder


def is_adapter(name: str) -> bool:
    """Return whether a parameter of an encoder belongs to an adapter."""
    return ".lora_A." in name or ".lora_B." in name


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


def _default_targets(encoder: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that are adapted where the configuration names none."""
    layers = dict(encoder.named_modules())
    return {
        name: layer
        for name, layer in layers.items()
        if _adaptable(layer) and not _weight_is_read(layers, name) and _groups(layer) == 1
        if not (isinstance(layer, nn.Conv2d) and layer.in_channels == 3)
    }


def _named_targets(encoder: nn.Module, lora: Lora, key: str) -> dict[str, nn.Module]:
    """Return the layers that ``lora.targets`` names, after checking that an adapter works on each."""
    layers, chosen = dict(encoder.named_modules()), dict[str, nn.Module]()
    for target in lora.targets or ():
        found = [name for name in layers if name == target or name.endswith(f".{target}")]
        if not found:
            known = sorted({name.rpartition(".")[2] for name in _default_targets(encoder)})
            raise ValueError(f"{key}.targets: there is no layer {target!r}, expected names such as {', '.join(known)}.")
        chosen |= {name: layers[name] for name in found}
    for name, layer in chosen.items():
        if _weight_is_read(layers, name):
            raise ValueError(
                f"{key}.targets: {name!r} lies in a {type(layers[name.rpartition('.')[0]]).__name__} that reads its "
                "weight instead of calling it, so an adapter there gets a wrong gradient or none; name the linear "
                "layers of the MLP, or leave targets out."
            )
        if not _adaptable(layer):
            raise ValueError(
                f"{key}.targets: {name!r} is a {type(layer).__name__}, expected a linear layer or a Conv2d."
            )
        if lora.rank % _groups(layer):
            raise ValueError(
                f"{key}.rank: {lora.rank} is not a multiple of the {_groups(layer)} groups of {name!r}, expected one, "
                "or targets without this layer."
            )
    return chosen


def _adaptable(layer: nn.Module) -> bool:
    """Return whether a layer is linear, or a convolution that applies a weight of its own size with zero padding."""
    from timm.layers import Conv2dSame, ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame

    kinds = (nn.Linear, nn.Conv2d, Conv2dSame, StdConv2d, StdConv2dSame, ScaledStdConv2d, ScaledStdConv2dSame)
    return type(layer) in kinds and getattr(layer, "padding_mode", "zeros") == "zeros"


def _peft_is_right(layer: nn.Module) -> bool:
    """Return whether peft's adapter of this layer is an update of the weight that the layer applies."""
    from timm.layers import Conv2dSame

    if not isinstance(layer, nn.Conv2d):
        return True
    return type(layer) in (nn.Conv2d, Conv2dSame) and layer.groups == 1 and set(layer.dilation) == {1}


def _weight_is_read(layers: dict[str, nn.Module], name: str) -> bool:
    """Return whether the module around a layer reads the layer's weight and never calls it.

    That is so in torch's attention, in that of BEiT, EVA and Swin V2 in timm, and in open_clip's attention pooling.
    """
    parent = layers.get(name.rpartition(".")[0])
    if isinstance(parent, nn.MultiheadAttention) or type(parent).__name__ == "AttentionPool2d":
        return True
    return name.endswith(".qkv") and getattr(parent, "q_bias", None) is not None


def _groups(layer: nn.Module) -> int:
    return layer.groups if isinstance(layer, nn.Conv2d) else 1
