"""Loading a CLIP by its name in open_clip, with weights that run no code; its two towers are encoders of their own."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from engine.io.paths import Paths


class LoadedClip(NamedTuple):
    """A CLIP in evaluation mode, how open_clip names it, and whether its weights come from training."""

    model: Any
    name: str
    pretrained: bool


def load_clip(
    paths: Paths,
    *,
    model: str,
    pretrained: str | None = None,
    weights: str | None = None,
    image_px: int | None = None,
    key: str,
) -> LoadedClip:
    """Build the CLIP ``model``: a name of open_clip, ``hf-hub:owner/name``, or a folder below the weights folder.

    A folder holds ``open_clip_config.json`` and safetensors, and is used where its name is that of ``model``. Otherwise
    ``pretrained`` is a tag of open_clip, whose download is read with ``weights_only``, and ``weights`` a local
    safetensors file of the whole CLIP. ``image_px`` brings the position embeddings to another size of image.

    Raises:
        FileNotFoundError: ``weights`` is not there.
        ValueError: there is no such model or tag, its weights cannot be had, or two sources of weights are given;
            ``key`` is the section of the configuration that is named.
    """
    if pretrained is not None and weights is not None:
        raise ValueError(f"{key}.weights: {weights!r} and pretrained {pretrained!r} are two sources, expected one.")
    name = _name(paths, model, pretrained, key)
    file = None if weights is None else _weights_file(paths, weights, key)
    import open_clip
    from timm.layers import set_fused_attn

    set_fused_attn(False)  # it has no second derivative on the CPU
    from_hub_or_folder = ":" in name and file is None
    try:
        with quiet():
            built = open_clip.create_model(
                name,
                pretrained=pretrained,
                load_weights=file is None,
                require_pretrained=pretrained is not None or from_hub_or_folder,
                pretrained_text=False,
                force_quick_gelu=_quick_gelu(model, pretrained),
                force_image_size=image_px,
                weights_only=True,
            )
            if file is not None:
                open_clip.load_checkpoint(built, str(file), strict=True, weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{key}.model: {model!r} could not be built with its weights from {file or pretrained or name} ({reason})."
        ) from error
    return LoadedClip(built.eval(), name, pretrained is not None or file is not None or from_hub_or_folder)


def _name(paths: Paths, model: str, pretrained: str | None, key: str) -> str:
    """Return the name by which open_clip finds ``model``, a folder before anything else."""
    import open_clip

    folder = paths.weights_path(model.removeprefix("hf-hub:"))
    if folder is not None and (folder / "open_clip_config.json").is_file():
        if not any(folder.glob("*.safetensors")):
            raise ValueError(f"{folder}: expected the weights of the CLIP in a file of safetensors, found none.")
        return f"local-dir:{folder}"
    if model.startswith("hf-hub:"):
        return model
    if model not in open_clip.list_models():
        raise ValueError(f"{key}.model: open_clip knows no model {model!r} (see open_clip.list_models()).")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained is not None and pretrained not in tags:
        raise ValueError(f"{key}.pretrained: {model} has no weights {pretrained!r}, expected one of {', '.join(tags)}.")
    return model


def _weights_file(paths: Paths, weights: str, key: str) -> Path:
    """Return the local safetensors file ``weights``."""
    path = paths.weights_path(weights)
    if path is None:
        raise FileNotFoundError(f"{key}.weights: {weights!r} is not below {paths.weights}; set VLDD_WEIGHTS.")
    if path.suffix != ".safetensors":
        raise ValueError(f"{key}.weights: {weights!r} is no safetensors file, which alone is read from disk.")
    return path


def _quick_gelu(model: str, pretrained: str | None) -> bool:
    """Whether the weights of this tag were trained with the activation that open_clip no longer builds by default."""
    import open_clip

    config = cast(dict[str, Any], open_clip.get_pretrained_cfg(model, pretrained) if pretrained else {})
    return bool(config.get("quick_gelu"))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep open_clip's remarks, which it makes to the root logger, from being shown inside the block."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


class WithMathAttention(nn.Module):
    """A tower of open_clip under torch's plain attention: the fused one has no second derivative on the CPU."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            outputs = self.tower(inputs)
        return cast(torch.Tensor, outputs[0] if isinstance(outputs, tuple) else outputs)  # CoCa adds its tokens
