"""The coresets' evidence as a file, so that one warm-up serves every coreset of a data set and student."""

from dataclasses import fields

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from engine.coresets import Evidence
from engine.files import atomic_path
from engine.storage import Location, as_file

FORMAT_VERSION = 1


def save_evidence(path: Location, evidence: Evidence) -> None:
    """Write the evidence as one safetensors file, atomically."""
    with atomic_path(path) as temporary:
        tensors = {entry.name: getattr(evidence, entry.name).contiguous() for entry in fields(Evidence)}
        save_file(tensors, temporary, metadata={"format_version": str(FORMAT_VERSION)})


def load_evidence(path: Location) -> Evidence:
    """Read what ``save_evidence`` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or of another kind.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no evidence for coresets here; the full-data student leaves it.")
    try:
        with as_file(path) as local:
            with safe_open(local, "pt") as file:
                version = (file.metadata() or {}).get("format_version")
            evidence = Evidence(**load_file(local))
    except (SafetensorError, TypeError) as error:
        raise ValueError(f"{path}: expected the evidence of a warm-up, but {error}.") from error
    if version != str(FORMAT_VERSION):
        raise ValueError(f"{path}: expected format_version {FORMAT_VERSION}, but the file has {version!r}.")
    return evidence
