"""Streams that take any text, and sizes and times in words."""

import io
import os
import sys
from pathlib import Path


def tolerate_any_text() -> None:
    """Let stdout and stderr replace what their encodings lack, and take everything where they are closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace" if name == "stderr" else "replace")


def format_bytes(size: float) -> str:
    """Return a number of bytes in MiB or GiB."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"


def format_minutes(minutes: float) -> str:
    """Return a number of minutes in minutes, hours or days."""
    if minutes < 120:
        return f"{minutes:.0f} min" if minutes >= 10 else f"{minutes:.1f} min"
    return f"{minutes / 60:.0f} h" if minutes < 4 * 24 * 60 else f"{minutes / 60 / 24:.0f} days"
