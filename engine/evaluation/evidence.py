"""The coresets' evidence as a file, so that one warm-up serves every coreset of a data set and student."""

from dataclasses import fields
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from engine.coresets import Evidence
from engine.files import atomic_path


def save_evidence(path: Path, evidence: Evidence) -> None:
    """Write the evidence as one safetensors file, atomically."""
    with atomic_path(path) as temporary:
        save_file({entry.name: getattr(evidence, entry.name).contiguous() for entry in fields(Evidence)}, temporary)


def load_evidence(path: Path) -> Evidence:
    """Read what ``save_evidence`` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or of another kind.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no evidence for coresets here; the full-data student leaves it.")
    try:
        return Evidence(**load_file(path))
    except (SafetensorError, TypeError) as error:
        raise ValueError(f"{path}: expected the evidence of a warm-up, but {error}.") from error
