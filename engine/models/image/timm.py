"""Any image encoder of timm, by its name there."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import timm
from timm.layers import set_fused_attn
from torch import nn

from engine.io.paths import Paths
from engine.models.image import Normalised
from engine.models.packages import installed, load_in_order, to_install
from engine.models.weights import Source, load_weights, quiet, reason
from engine.ranges import Count


def build(
    paths: Paths, *, model: str, weights: str | None = None, pretrained: bool = True, image_px: Count | None = None
) -> nn.Module:
    """Build ``timm.create_model(model)`` without its classifier, with the mean and std of its own configuration.

    ``weights`` names a local safetensors file; otherwise ``pretrained`` weights come from ``model.safetensors`` in the
    folder of the same name below the weights folder, an installed package, or the hub, in this order. Fused attention
    is switched off, because it has no second derivative on the CPU. ``image_px`` is for models made for one size of
    image (vision transformers): their position embeddings are interpolated from the size of the weights to this one; a
    convolutional network needs none.

    Raises:
        ValueError: timm knows no such model, it takes no ``image_px``, or its weights cannot be loaded.
    """
    set_fused_attn(False)
    if not timm.is_model(model.split(".")[0].removeprefix("timm/")):
        raise ValueError(
            f"student.image.model: timm {timm.__version__} knows no model {model!r} (see timm.list_models())."
        )
    name = model.removeprefix("timm/")
    given = not pretrained or weights is not None
    local = None if given else paths.weights_path(model)
    package = None if given or local else installed(name.removesuffix(".in1k"))
    from_hub = not given and package is None
    overlay = {"file": str(local / "model.safetensors"), "custom_load": False} if local else None
    size = {} if image_px is None else {"img_size": image_px}
    try:
        with quiet(), _load_report() as report:
            backbone = timm.create_model(
                name, pretrained=from_hub, pretrained_cfg_overlay=overlay, num_classes=0, **size
            )
    except Exception as error:
        if isinstance(error, TypeError) and "img_size" in str(error):
            raise ValueError(f"student.image.image_px: {model} takes images of any size, expected null.") from error
        if not from_hub:
            raise ValueError(
                f"student.image.model: {model!r} cannot be built with image_px = {image_px} ({reason(error)})."
            ) from error
        raise ValueError(
            f"student.image.model: the weights of {model!r} could not be loaded from {local or 'the hub'} "
            f"({reason(error)}); {to_install(name.removesuffix('.in1k'))}name a local safetensors file in "
            "student.image.weights, or set pretrained: false."
        ) from error
    if from_hub:
        _check_loaded(Source("student.image.model", model, local or "the hub"), backbone, report)
    if weights is not None:
        load_weights(backbone, paths, weights)
    if package is not None:
        load_in_order(backbone, Source("student.image.model", model, package))
    config = backbone.default_cfg
    return Normalised(
        backbone,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        features=getattr(backbone, "head_hidden_size", backbone.num_features),
        pretrained=pretrained or weights is not None,
    ).eval()


def _check_loaded(source: Source, backbone: Any, report: Mapping[str, list[str]]) -> None:
    """Refuse weights that timm has loaded in part, or that are not finite; those of a classifier are not used."""
    classifier = backbone.pretrained_cfg.get("classifier") or ()
    unused = {part.partition(".")[0] for part in ([classifier] if isinstance(classifier, str) else classifier)}
    unexpected = [name for name in report["Unexpected"] if name.partition(".")[0] not in unused]
    source.check_finite(backbone)
    source.check_names(backbone, missing=report["Missing"], unexpected=unexpected)


@contextmanager
def _load_report() -> Iterator[dict[str, list[str]]]:
    """Yield the names of the missing and of the unexpected weights that timm logs inside the block, and nowhere else.

    Without a classifier timm loads weights of any names, and leaves those that are not there as they were drawn.
    """
    names: dict[str, list[str]] = {"Missing": [], "Unexpected": []}

    def keep(record: logging.LogRecord) -> bool:
        if found := re.match(r"(Missing|Unexpected) keys \((.+?)\) ", record.getMessage()):
            names[found[1]] += found[2].split(", ")
        return False

    logger, disabled = logging.getLogger("timm.models._builder"), logging.root.manager.disable
    level = logger.level
    logging.disable(logging.NOTSET)
    logger.setLevel(logging.INFO)
    logger.addFilter(keep)
    try:
        yield names
    finally:
        logger.removeFilter(keep)
        logger.setLevel(level)
        logging.disable(disabled)
