"""Encoders that this machine has the weights of: in a package, in the weights folder, or else at the hub."""

from typing import NamedTuple

from engine.io.paths import Paths
from engine.models.packages import PUBLIC, install, installed

SMALL = {width: f"mobilenetv1_0{width * 100:.0f}_imagenet.safetensors" for width in (0.25, 0.5)}


class Encoder(NamedTuple):
    """An encoder as the options of a tower, where its weights are in words, and whether these are on this machine."""

    options: str
    origin: str
    here: bool = True


def encoders(paths: Paths) -> dict[str, Encoder]:
    """Return a pretrained encoder of each modality, small enough for a CPU.

    Raises:
        ValueError: a package of weights is of another version than the one that was tried.
    """
    image, text = PUBLIC
    small = [(width, name) for width, name in SMALL.items() if paths.weights_path(name)]
    found = {
        "image": _found(paths, image, f"encoder: timm, model: {image}"),
        "text": _found(paths, text, f"encoder: transformers, model: {text}"),
    }
    if small and not found["image"].here:
        width, name = small[0]
        options = f"encoder: mobilenetv1, width: {width}, weights: {name}"
        found["image"] = Encoder(options, f"weights in {paths.weights}")
    return found


def _found(paths: Paths, model: str, options: str) -> Encoder:
    if installed(model):
        return Encoder(options, "weights of an installed package")
    if paths.weights_path(model):
        return Encoder(options, f"weights in {paths.weights}")
    return Encoder(options, f"not on this machine: fetched from the Hugging Face hub, or type {install(model)}", False)
