"""History of one trial: what it was given, and the numbers of each of its validations."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from engine.io.files import read_json, write_json
from engine.io.storage import Location

BEST_SET, HISTORY, FRAMES = "synthetic_set.safetensors", "history.json", "frames"
"""Names in the folder of a trial: its best set, its history, and the folder of a picture of it at each validation."""
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class History:
    """Values that were searched for a trial, the file of its initial pairs, and its validations in order.

    A validation has ``outer_step``, the metrics of a student on val, the mean of each loss over the outer steps since
    the last one, and ``best``. ``failure`` is the reason why the trial ended early, if it did by an error.
    """

    searched: Mapping[str, Any] = field(default_factory=dict)
    initial: str = ""
    validations: Sequence[Mapping[str, float]] = ()
    failure: str | None = None


def write_history(file: Location, history: History) -> None:
    """Write a history as JSON, atomically; its numbers must be finite."""
    write_json(file, {"format_version": FORMAT_VERSION, **asdict(history)})


def read_history(file: Location) -> History:
    """Read what ``write_history`` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or of another format version.
    """
    stored = read_json(file)
    version = stored.pop("format_version", None) if isinstance(stored, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(f"{file}: got format_version {version!r}, expected {FORMAT_VERSION}.")
    try:
        history = History(**stored)
        validations = [{name: float(value) for name, value in one.items()} for one in history.validations]
        if not isinstance(history.searched, dict) or any("outer_step" not in one for one in validations):
            raise TypeError("searched must be an object, and each validation have an outer_step")
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{file}: it is not the history of a trial ({error}).") from error
    return replace(history, initial=str(history.initial), validations=validations)
