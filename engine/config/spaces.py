"""Spaces: reading the YAML files of ``tune_spaces`` and of users strictly."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from engine.config.errors import COMMAND_LINE, ConfigError
from engine.io.sentences import nearest, shown

# Beside this package in a checkout as in a wheel. importlib.resources cannot read a namespace package that is installed
# in editable mode (NotADirectoryError on Python 3.11).
SPACES = Path(__file__).resolve().parents[2] / "tune_spaces"
PUBLISHED, TABLES = "published", "tables"


def spaces() -> dict[str, Path]:
    """Return the files of all spaces by their names: own ones, then those whose names begin with ``published/``."""
    return _named(SPACES.glob("*.yaml"), SPACES) | _named(SPACES.glob(f"{PUBLISHED}/*.yaml"), SPACES)


def tables() -> dict[str, Path]:
    """Return the files of all tables of studies by their names."""
    return _named(SPACES.glob(f"{TABLES}/*.yaml"), SPACES / TABLES)


def _named(files: Iterable[Path], folder: Path) -> dict[str, Path]:
    """Return files by their names below a folder, in the order of these; numbers in names count by their value."""
    names = {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}
    numbered = {name: re.sub(r"\d+", lambda number: number[0].zfill(6), name) for name in names}
    return {name: names[name] for name in sorted(names, key=numbered.__getitem__)}


def notes(files: Mapping[str, Path]) -> dict[str, str]:
    """Return the note of each of ``files``; of an unreadable one, its error instead."""
    found = {}
    for name, path in files.items():
        try:
            found[name] = str(read_space(path)[1].get("note", ""))
        except ConfigError as error:
            found[name] = str(error)
    return found


def read_space(space: str | Path) -> tuple[str, dict[Any, Any]]:
    """Return the name for messages and the content of a space of ``tune_spaces`` (by its name) or a YAML file.

    Raises:
        ConfigError: it does not exist, or is no mapping in usable YAML.
    """
    shipped = spaces()
    if isinstance(space, str) and space in shipped:
        name, path = f"tune_spaces/{space}.yaml", shipped[space]
    else:
        path = Path(space).expanduser()
        recipe = str(space).startswith(f"{PUBLISHED}/") and not path.exists()
        if isinstance(space, str) and not space.endswith((".yaml", ".yml")) and ("/" not in space or recipe):
            own = sorted(name for name in shipped if "/" not in name)
            named = f"one of {', '.join(own)}, or of {len(shipped) - len(own)} in {PUBLISHED}/ (--list shows all)"
            close = nearest(space, [*shipped, *(Path(name).name for name in shipped)])
            full = next((name for name in sorted(shipped) if close in (name, Path(name).name)), None)
            hint = f"; the nearest known name is {full}" if full else ""
            expected = f"the path of a YAML file, {named}{hint}"
            raise ConfigError(f"{COMMAND_LINE}: the space is {space!r}, expected {expected}.")
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
    """YAML without repeated keys, anchors, aliases, tags and dates, which stay texts."""

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


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag.rpartition(":")[2] in ("null", "bool", "int", "float")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_yaml(text: str, name: str) -> Any:
    """Read YAML strictly; errors name ``name`` as its origin.

    Raises:
        ConfigError: it is no YAML, repeats a key, or has anchors, aliases or tags.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError as error:
        raise ConfigError(f"{name}: the configuration is nested too deeply, expected a few levels.") from error
    except (yaml.YAMLError, ValueError) as error:  # PyYAML's constructors of dates and numbers raise a ValueError
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}" if mark is not None else "the text"
        issue = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        reason = " ".join(str(error if isinstance(error, ValueError) else issue).split()).rstrip(".")
        raise ConfigError(f"{name}: {line} is not usable YAML, {reason}.") from error


_HASH = "\ufdd0"
"""Stands for ``#`` while a value is parsed; Unicode reserves it for such uses."""


def parse_value(text: str, name: str) -> Any:
    """Read one value as YAML spells it: in quotes or brackets, else a number, a boolean, null or the text as it is.

    ``#`` begins no comment, and only quotes and brackets have a syntax. Errors name ``name`` as the value's origin.

    Raises:
        ConfigError: it is not UTF-8, or what stands in quotes or brackets is no YAML as ``parse_yaml`` reads it.
    """
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ConfigError(f"{name} is {text!r}, expected a text in UTF-8.")
    if f"{text[:1]}{text[-1:]}" in ("[]", "{}", "''", '""') and len(text) > 1:
        return _with_hashes(parse_yaml(text.replace("#", _HASH), name))
    tag = _Loader("").resolve(yaml.ScalarNode, text.strip(), (True, False))
    return text if tag.endswith(":str") else parse_yaml(text, name)


def _with_hashes(tree: Any) -> Any:
    """Return a parsed value in which ``#`` is itself again."""
    if isinstance(tree, dict):
        return {_with_hashes(key): _with_hashes(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_with_hashes(value) for value in tree]
    return tree.replace(_HASH, "#") if isinstance(tree, str) else tree
