"""Spaces: the YAML files of ``tune_spaces`` and of users, read strictly."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from engine.config.errors import COMMAND_LINE, ConfigError, nearest, shown

# Beside this package in a checkout as in a wheel. importlib.resources cannot read a namespace package that is installed
# in editable mode (NotADirectoryError on Python 3.11).
SPACES = Path(__file__).resolve().parents[2] / "tune_spaces"
PUBLISHED = "published"


def spaces() -> dict[str, str]:
    """Return the names of the spaces with their notes; what is wrong with an unreadable one stands in its place.

    Our own come first, then the recipes of published tables, whose names begin with ``published/``.
    """
    return {name: _note(name, entry) for name, entry in sorted(_shipped().items(), key=lambda item: _rank(item[0]))}


def _rank(name: str) -> tuple[int, list[str]]:
    """Return what names are sorted by: their depth, then their parts, of which numbers count by their value."""
    return name.count("/"), [part.zfill(6) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def read_space(space: str | Path) -> tuple[str, dict[Any, Any]]:
    """Read a space of ``tune_spaces`` by its name, or a YAML file by its path; return what to call it, and its content.

    Raises:
        ConfigError: it is not there, or no usable YAML.
    """
    name, text = _text(space)
    return name, _mapping(text, name)


class _Loader(yaml.SafeLoader):
    """YAML without repeated keys, and without anchors, aliases and tags, so that a file says what it says."""

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
    """Read YAML strictly; ``name`` says in messages where it is from.

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


def _mapping(text: str, name: str) -> dict[Any, Any]:
    """Read YAML that has to be a mapping; its keys are whatever YAML makes of them, and told apart later."""
    tree = parse_yaml(text, name)
    if not isinstance(tree, dict):
        raise ConfigError(f"{name}: the file holds {shown(tree)}, expected a mapping with data, student and method.")
    return tree


def _shipped() -> dict[str, Path]:
    """Return the files of ``tune_spaces`` by the names of the spaces."""
    files = [*SPACES.glob("*.yaml"), *SPACES.glob(f"{PUBLISHED}/*.yaml")]
    return {path.relative_to(SPACES).with_suffix("").as_posix(): path for path in files}


def _text(space: str | Path) -> tuple[str, str]:
    """Return what to call a space in messages, and its text."""
    shipped = _shipped()
    if isinstance(space, str) and space in shipped:
        return f"tune_spaces/{space}.yaml", _read(shipped[space].read_text, space)
    if isinstance(space, Path) or space.endswith((".yaml", ".yml")) or ("/" in space and not _meant(space)):
        return str(space), _read(Path(space).expanduser().read_text, str(space))
    raise ConfigError(f"{COMMAND_LINE}: the space is {space!r}, expected {_expected(space, list(shipped))}.")


def _meant(space: str) -> bool:
    """Whether a name that is not there was meant to be that of a published recipe, and not a path."""
    return space.startswith(f"{PUBLISHED}/") and not Path(space).exists()


def _expected(space: str, known: list[str]) -> str:
    """Say which spaces there are; published recipes, which are many, by their number and the nearest one alone."""
    own = sorted(name for name in known if "/" not in name)
    named = f"one of {', '.join(own)}, or of {len(known) - len(own)} in {PUBLISHED}/ (--list shows all)"
    close = nearest(space, [*known, *(Path(name).name for name in known)])
    full = next((name for name in sorted(known) if close in (name, Path(name).name)), None)
    return f"the path of a YAML file, {named}" + (f"; the nearest known name is {full}" if full else "")


def _read(reader: Callable[..., str], name: str) -> str:
    """Read a text file."""
    try:
        return reader(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigError(f"{name}: the file cannot be read ({reason}), expected a YAML file.") from error


def _note(space: str, entry: Path) -> str:
    """Return the note of a space, or what keeps it from being read."""
    name = f"tune_spaces/{space}.yaml"
    try:
        return str(_mapping(_read(entry.read_text, name), name).get("note", ""))
    except ConfigError as error:
        return str(error)
