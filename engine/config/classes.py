"""The YAML file of ``evaluate --classes``: prompts for each class, and a table with the classes of images."""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationError

from engine.config.errors import ConfigError, issues
from engine.config.spaces import parse_yaml
from engine.config.strict import Name, Strict
from engine.data.classes import Classes
from engine.data.records import captions_of, image_name
from engine.data.tables import columns, read_table
from engine.io.files import decoded
from engine.io.sentences import shown

PHOTO = ("file_name", "image")
Prompts = Annotated[
    list[Name], Field(min_length=1), BeforeValidator(lambda given: [given] if isinstance(given, str) else given)
]


class Classification(Strict):
    """A file of classes: ``labels`` is a table (CSV, JSONL or Parquet), beside the file unless absolute.

    It has a column ``image`` (or ``file_name``) with the names of the data, and ``column`` with a class, a list of
    classes in JSONL and Parquet, or nothing. ``classes`` has a prompt, or several, for each class.
    """

    labels: Name
    column: Name = "class"
    classes: dict[Name, Prompts] = Field(min_length=2)


def read_classes(path: Path) -> Classes:
    """Read a file of classes and its table of labels.

    Raises:
        FileNotFoundError: the file or the table is not there.
        ValueError: one cannot be read, a key or column is missing, or a label has no prompts.
    """
    tree = parse_yaml(decoded(path.read_bytes()), str(path))
    try:
        given = Classification.model_validate(tree)
    except ValidationError as error:
        raise ConfigError.of(str(path), issues(error, Classification, tree)) from error
    table = path.parent / given.labels
    if not table.is_file():
        raise FileNotFoundError(f"{path}: labels is {given.labels!r}, but there is no file {table}.")
    photo = next((name for name in PHOTO if name in columns(table)), PHOTO[-1])
    found: dict[str, list[str]] = {}
    for number, row in enumerate(read_table(table, (photo, given.column)), start=1):
        where = f"{table}: row {number}"
        blank = row.get(given.column) in (None, "")
        for label in [] if blank else captions_of(row, given.column, where):
            if label not in given.classes:
                known = ", ".join(map(shown, given.classes))
                raise ValueError(f"{where}: {given.column!r} is {shown(label)}, expected one of the classes {known}.")
            found.setdefault(image_name(row, photo, where), []).append(label)
    return Classes(given.column, given.classes, found)
