"""Load weights from files, identify them by a digest, and turn what their libraries raise into one sentence."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from engine.io.files import digest
from engine.io.paths import Paths
from engine.tensors import check_finite


class Unusable(ValueError):
    """A model that cannot be used: one sentence with key, value and the place of its files."""


@dataclass(frozen=True)
class Source:
    """The configuration's ``key`` and ``value`` that name a model, and the ``place`` that it is loaded from."""

    key: str
    value: str
    place: Path | str

    def error(self, why: str) -> Unusable:
        """Return the error that the model cannot be used, with key, value and place."""
        return Unusable(f"{self.key}: {self.value!r} cannot be used, {self.place}: {why}.")

    @contextmanager
    def loading(self, expected: str) -> Iterator[None]:
        """Keep libraries quiet inside the block, and turn their errors into one sentence that says what is expected.

        Raises:
            Unusable: anything was raised; damaged files make libraries raise exceptions of every kind.
        """
        try:
            with quiet():
                yield
        except Unusable:
            raise
        except Exception as error:
            code = "trust_remote_code" in str(error)
            why = "it needs code that lies beside its weights, which is never run" if code else reason(error)
            raise self.error(f"expected {expected}, but {why}") from error

    def check_names(self, nn_module: nn.Module, *, missing: Iterable[str], unexpected: Iterable[str]) -> None:
        """Refuse weights that leave out parameters of a model, or hold some of a part that the model has otherwise.

        Unexpected names that belong to no part of the model are those of a head, which is not used here.

        Raises:
            Unusable: there are such names.
        """
        kind = type(nn_module).__name__
        if lost := sorted(missing):
            raise self.error(f"expected all weights of a {kind}, found none of {_some(lost)}")
        parts = {name for name, _ in nn_module.named_children()}
        known = {name for name, _ in (*nn_module.named_buffers(), *nn_module.named_parameters())}
        prefix = f"{getattr(nn_module, 'base_model_prefix', '')}."
        names = (name.removeprefix(prefix) for name in unexpected)
        if extra := sorted(name for name in names if name.partition(".")[0] in parts and name not in known):
            raise self.error(f"expected the weights of a {kind} as it is configured, which has no {_some(extra)}")

    def check_finite(self, nn_module: nn.Module) -> None:
        """Refuse weights with a number that is not finite.

        Raises:
            Unusable: there is one.
        """
        for name, value in nn_module.state_dict().items():
            try:
                check_finite(name, value)
            except ValueError as error:
                raise self.error(str(error).rstrip(".")) from error


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:2])}{f' and {len(names) - 2} more' if len(names) > 2 else ''}"


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
    source = Source("student.image.weights", name, path)
    with source.loading("safetensors weights of this encoder"):
        state = load_file(path)
    given, own = ({name: value.shape for name, value in tensors.items()} for tensors in (state, backbone.state_dict()))
    different = (name for name in given.keys() | own.keys() if given.get(name) != own.get(name))
    wrong = sorted(name for name in different if not name.endswith("num_batches_tracked"))
    if wrong:
        raise source.error(f"expected the weights of this encoder, but {len(wrong)} tensors differ ({wrong[0]}...)")
    backbone.load_state_dict(state, strict=False)
    source.check_finite(backbone)


def weights_digest(model: nn.Module) -> str:
    """Return a digest of the names and values of a model's whole state."""
    state = sorted(model.state_dict().items())
    return digest(*(part for name, value in state for part in (name, value.cpu().contiguous().numpy().tobytes())))


def reason(error: Exception) -> str:
    """Return the message of a library's exception, or its kind where it has none, on a line of 200 characters."""
    return " ".join(str(error).split())[:200].rstrip(" .") or type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress messages up to warnings and progress bars inside the block, and questions of transformers.

    Where no setting says whether a library may run code that lies beside weights, it asks on the terminal and
    takes "yes" from whatever is piped in; with a time-out of zero it refuses.
    """
    from transformers import dynamic_module_utils
    from transformers.utils import logging as transformers_logging

    level, bars = logging.root.manager.disable, transformers_logging.is_progress_bar_enabled()
    patience = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    logging.disable(logging.WARNING)
    transformers_logging.disable_progress_bar()
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        yield
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = patience
        logging.disable(level)
        if bars:
            transformers_logging.enable_progress_bar()
