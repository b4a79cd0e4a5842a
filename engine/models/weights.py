"""Load weights from files, identify them by a digest, and keep the libraries that load them quiet."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from engine.io.files import digest
from engine.io.paths import Paths


def load_weights(backbone: nn.Module, paths: Paths, name: str) -> None:
    """Load the safetensors file ``name`` (below the weights folder, or absolute) into an image encoder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: its tensors are not those of this backbone, or it is not a safetensors file.
    """
    path = paths.weights_path(name)
    if path is None:
        raise FileNotFoundError(
            f"student.image.weights: {name!r} is not below {paths.weights}; set VLDD_WEIGHTS to its folder."
        )
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: expected safetensors weights of this encoder, but {error}.") from error
    given, own = ({name: value.shape for name, value in tensors.items()} for tensors in (state, backbone.state_dict()))
    different = (name for name in given.keys() | own.keys() if given.get(name) != own.get(name))
    wrong = sorted(name for name in different if not name.endswith("num_batches_tracked"))
    if wrong:
        raise ValueError(
            f"{path}: expected the weights of this encoder, but {len(wrong)} tensors differ ({wrong[0]}...)."
        )
    backbone.load_state_dict(state, strict=False)


def weights_digest(model: nn.Module) -> str:
    """Return a digest of the names and values of a model's whole state."""
    state = sorted(model.state_dict().items())
    return digest(*(part for name, value in state for part in (name, value.cpu().contiguous().numpy().tobytes())))


def reason(error: Exception) -> str:
    """Return the message of a library's exception on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress log messages up to warnings, and the progress bars of transformers, inside the block."""
    from transformers.utils import logging as transformers_logging

    level, bars = logging.root.manager.disable, transformers_logging.is_progress_bar_enabled()
    logging.disable(logging.WARNING)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.disable(level)
        if bars:
            transformers_logging.enable_progress_bar()
