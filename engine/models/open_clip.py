"""Load a CLIP by its name in open_clip, from weights that run no code."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import safe_open
from torch import nn

from engine.io.paths import Paths
from engine.models.weights import Source, quiet, reason


class LoadedClip(NamedTuple):
    """A CLIP in evaluation mode, its name in open_clip, and whether its weights were trained."""

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
    safetensors file of the whole CLIP. Position embeddings are interpolated to images of ``image_px``.

    Raises:
        FileNotFoundError: ``weights`` does not exist.
        ValueError: there is no such model or tag, its weights cannot be loaded, or two sources of weights are given;
            the message names ``key``, a section of the configuration.
    """
    if pretrained is not None and weights is not None:
        raise ValueError(f"{key}.weights: {weights!r} and pretrained {pretrained!r} are two sources, expected one.")
    name = _name(paths, model, pretrained, key)
    file = None if weights is None else paths.weights_path(weights)
    if weights is not None and file is None:
        raise FileNotFoundError(f"{key}.weights: {weights!r} is not below {paths.weights}; set VLDD_WEIGHTS.")
    if file is not None and file.suffix != ".safetensors":
        raise ValueError(f"{key}.weights: expected a safetensors file, found {weights!r}.")
    import open_clip
    from timm.layers import set_fused_attn

    set_fused_attn(False)  # it has no second derivative on the CPU
    from_hub_or_folder = ":" in name and file is None
    config = cast(dict[str, Any], open_clip.get_pretrained_cfg(model, pretrained) if pretrained else {})
    try:
        with quiet():
            built = open_clip.create_model(
                name,
                pretrained=pretrained,
                load_weights=file is None,
                require_pretrained=pretrained is not None or from_hub_or_folder,
                pretrained_text=False,
                force_quick_gelu=bool(config.get("quick_gelu")),  # an activation that is no longer the default
                force_image_size=image_px,
                weights_only=True,
            )
            if file is not None:
                open_clip.load_checkpoint(built, str(file), strict=True, weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{key}.model: {model!r} could not be built with its weights from {file or pretrained or name} "
            f"({reason(error)})."
        ) from error
    folder = Path(name.removeprefix("local-dir:")) if name.startswith("local-dir:") else None
    files = [file] if file else [*folder.glob("*.safetensors")] if folder else []
    source = Source(f"{key}.model", model, file or name)
    _check_positions(source, built, files, resized=image_px is not None)
    source.check_finite(built)
    return LoadedClip(built.eval(), name, pretrained is not None or file is not None or from_hub_or_folder)


def _check_positions(source: Source, built: nn.Module, files: Sequence[Path], *, resized: bool) -> None:
    """Refuse weights whose positions open_clip has interpolated, but those of images that were ``resized`` on purpose.

    Raises:
        Unusable: the configuration says another length of texts, or another size of images, than the file.
    """
    own = {
        name: list(value.shape) for name, value in built.state_dict().items() if name.endswith("positional_embedding")
    }
    for file in files:
        with source.loading("safetensors"), safe_open(file, "pt") as tensors:
            given = {name: tensors.get_slice(name).get_shape() for name in own.keys() & set(tensors.keys())}
        for name, shape in given.items():
            if shape != own[name] and not (resized and name.startswith("visual.")):
                raise source.error(
                    f"expected {name} of the size {own[name]} that its configuration says, found {shape}"
                )


def _name(paths: Paths, model: str, pretrained: str | None, key: str) -> str:
    """Return the name by which open_clip finds ``model``, a folder before anything else."""
    import open_clip

    folder = paths.weights_path(model.removeprefix("hf-hub:"))
    if folder is not None and (folder / "open_clip_config.json").is_file():
        if not any(folder.glob("*.safetensors")):
            raise ValueError(f"{folder}: expected a safetensors file with the weights of the CLIP, found none.")
        return f"local-dir:{folder}"
    if model.startswith("hf-hub:"):
        return model
    if model not in open_clip.list_models():
        raise ValueError(f"{key}.model: open_clip knows no model {model!r} (see open_clip.list_models()).")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained is not None and pretrained not in tags:
        raise ValueError(f"{key}.pretrained: {model} has no weights {pretrained!r}, expected one of {', '.join(tags)}.")
    return model


class WithMathAttention(nn.Module):
    """A tower of open_clip under torch's plain attention: the fused one has no second derivative on the CPU."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            outputs = self.tower(inputs)
        return cast(torch.Tensor, outputs[0] if isinstance(outputs, tuple) else outputs)  # CoCa adds its tokens
