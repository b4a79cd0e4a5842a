"""Spaces: reading the YAML files of ``tune_spaces`` and of users strictly."""

import re
from pathlib import Path
from typing import Any

import yaml

from engine.config.errors import COMMAND_LINE, ConfigError
from engine.io.sentences import nearest, shown

# Beside this package in a checkout as in a wheel. importlib.resources cannot read a namespace package that is installed
# in editable mode (NotADirectoryError on Python 3.11).
SPACES = Path(__file__).resolve().parents[2] / "tune_spaces"
PUBLISHED = "published"


def spaces() -> dict[str, str]:
    """Return the notes of all spaces by their names; of an unreadable space, its error instead.

    Own spaces come first, then the recipes of published tables, whose names begin with ``published/``.
    """

    def rank(name: str) -> tuple[int, list[str]]:  # numbers in names count by their value
        return name.count("/"), [part.zfill(6) if part.isdigit() else part for part in re.split(r"(\d+)", name)]

    notes = {}
    for name in sorted(_shipped(), key=rank):
        try:
            notes[name] = str(read_space(name)[1].get("note", ""))
        except ConfigError as error:
            notes[name] = str(error)
    return notes


def read_space(space: str | Path) -> tuple[str, dict[Any, Any]]:
    """Return the name for messages and the content of a space of ``tune_spaces`` (by its name) or a YAML file.

    Raises:
        ConfigError: it does not exist, or is no mapping in usable YAML.
    """
    shipped = _shipped()
    if isinstance(space, str) and space in shipped:
        name, path = f"tune_spaces/{space}.yaml", shipped[space]
    else:
        path = Path(space).expanduser()
        recipe = str(space).startswith(f"{PUBLISHED}/") and not path.exists()
        if isinstance(space, str) and not space.endswith((".yaml", ".yml")) and ("/" not in space or recipe):
            raise ConfigError(f"{COMMAND_LINE}: the space is {space!r}, expected {_expected(space, list(shipped))}.")
        name = str(space)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigError(f"{name}: the file cannot be read ({reason}), expected a YAML file.") from error
    tree = parse_yaml(text, name)
    if not isinstance(tree, dict):
        raise ConfigError(f"{name}: the file holds {shown(tree)}, expected a mapping with data, student and method.")
    return name, tree


class _Loader(yaml.SafeLoader):
    """YAML without repeated keys, anchors, aliases and tags."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if getattr(event, "anchor", None) is not None or getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(problem="found an anchor, an alias or a tag", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"found the key {key!r} twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, name: str) -> Any:
    """Read YAML strictly; errors name ``name`` as its origin.

    Raises:
        ConfigError: it is no YAML, repeats a key, or has anchors, aliases or tags.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark is not None else ""
        issue = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        raise ConfigError(f"{name}:{line or ' the text'} is not usable YAML, {_flat(issue)}.") from error
    except RecursionError as error:
        raise ConfigError(f"{name}: the configuration is nested too deeply, expected a few levels.") from error
    except ValueError as error:  # what PyYAML's constructors of dates and numbers raise
        raise ConfigError(f"{name}: the text is not usable YAML, {_flat(error)}.") from error


def _flat(issue: object) -> str:
    """Return a message on one line."""
    return " ".join(str(issue).split()).rstrip(".")


def _shipped() -> dict[str, Path]:
    """Return the files of ``tune_spaces`` by the names of the spaces."""
    files = [*SPACES.glob("*.yaml"), *SPACES.glob(f"{PUBLISHED}/*.yaml")]
    return {path.relative_to(SPACES).with_suffix("").as_posix(): path for path in files}


def _expected(space: str, known: list[str]) -> str:
    """Return a description of the spaces there are: own names, the number of published ones, and the nearest name."""
    own = sorted(name for name in known if "/" not in name)
    named = f"one of {', '.join(own)}, or of {len(known) - len(own)} in {PUBLISHED}/ (--list shows all)"
    close = nearest(space, [*known, *(Path(name).name for name in known)])
    full = next((name for name in sorted(known) if close in (name, Path(name).name)), None)
    return f"the path of a YAML file, {named}" + (f"; the nearest known name is {full}" if full else "")
