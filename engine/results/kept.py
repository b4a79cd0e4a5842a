"""Dataclasses as JSON files in the folder of a study, each with a format version."""

from dataclasses import asdict
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from engine.io.files import read_json, write_json
from engine.io.storage import Location

Kept = TypeVar("Kept")
FORMAT_VERSION = 1


def write_kept(file: Location, value: Any) -> None:
    """Write a dataclass as JSON."""
    write_json(file, {"format_version": FORMAT_VERSION, **asdict(value)})


def read_kept(file: Location, kind: type[Kept], *, called: str) -> Kept | None:
    """Read the dataclass ``kind`` that ``write_kept`` wrote; None where there is no file.

    Raises:
        ValueError: the file is damaged, or of another format version; the message says that it is not ``called``.
    """
    if not file.is_file():
        return None
    stored = read_json(file)
    version = stored.pop("format_version", None) if isinstance(stored, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(f"{file}: got format_version {version!r}, expected {FORMAT_VERSION}.")
    try:
        return TypeAdapter(kind).validate_python(stored)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{file}: it is not {called} ({where}: {first['msg'].lower()}).") from error
