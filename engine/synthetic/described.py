"""Checks of what the file or the folder of a synthetic set says about it."""

from collections.abc import Mapping
from typing import Any

from engine.io.sentences import shown
from engine.io.storage import Location
from engine.losses.contrastive import SOFT, LossName


def check_version(path: Location, found: Any, expected: str | int) -> None:
    """Check the format version of a set's file or folder.

    Raises:
        ValueError: it is another one.
    """
    if found != expected:
        raise ValueError(f"{path}: expected format_version {expected}, but the file has {found!r}.")


def checked_loss(path: Location, loss: Any) -> LossName:
    """Return the name of a loss.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(loss, str) or loss not in SOFT:
        raise ValueError(f"{path}: expected one of the losses {', '.join(SOFT)}, but the file names {shown(loss)}.")
    return loss


def checked_metadata(path: Location, metadata: Any) -> dict[str, Any]:
    """Return the metadata of a set.

    Raises:
        ValueError: they are no JSON object, or their ``student`` is none.
    """
    if not isinstance(metadata, dict) or not isinstance(metadata.get("student", {}), dict):
        found = shown(metadata)
        raise ValueError(f"{path}: expected metadata that is a JSON object, with 'student' another, found {found}.")
    if "students" in metadata:
        students, own = metadata["students"], metadata.get("student", {})
        if not isinstance(students, list) or not all(isinstance(one, dict) for one in students) or "image" not in own:
            raise ValueError(
                f"{path}: students is {shown(students)} in its metadata, expected a list of objects beside a student."
            )
    return metadata


def checked_text_of(path: Location, text_of: Any) -> list[int]:
    """Return the numbers of the texts that further students read.

    Raises:
        ValueError: they are no list of whole numbers.
    """
    if not isinstance(text_of, list) or not all(type(one) is int for one in text_of):
        raise ValueError(f"{path}: text_of is {shown(text_of)}, expected a list of whole numbers.")
    return text_of


def checked_tiles(path: Location, tiles: Any) -> int:
    """Return the number of tiles a side of each image.

    Raises:
        ValueError: it is no whole number above 0.
    """
    if type(tiles) is not int or tiles < 1:
        raise ValueError(f"{path}: tiles is {shown(tiles)}, expected a whole number above 0.")
    return tiles


def check_students(path: Location, metadata: Mapping[str, Any], there: int) -> None:
    """Check that a set has the learning rates of each further student that its metadata name.

    Raises:
        ValueError: it has not.
    """
    named = len(metadata.get("students", []))
    if named != there:
        raise ValueError(f"{path}: it has the learning rates of {there} further students, expected those of {named}.")
