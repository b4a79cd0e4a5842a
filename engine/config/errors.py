"""What is wrong with a configuration, told in one sentence."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import getitem
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from engine.config.strict import model_of, wanted

COMMAND_LINE = "command line"
_LONGEST = 80

_UNKNOWN = ("extra_forbidden", "invalid_key")
_EXPECTED = {
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_parsing_size": "an integer of a reasonable size",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "string_too_short": "a text that is not empty",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "none_required": "null",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "path_type": "a path",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "literal_error": "{expected}",
    "too_short": "a list of {min_length} or more",
    "too_long": "a list of {max_length} or fewer",
    "expected": "{expected}",
    "related": "{expected}",
}


@dataclass(frozen=True)
class ConfigIssue:
    """One thing that is wrong with a mapping; ``keys`` are the dotted keys that take part in it, the first is named.

    ``near`` is the known key that an unknown one was probably meant to be.
    """

    keys: tuple[str, ...]
    value: Any
    expected: str
    kind: Literal["value", "missing", "unknown"] = "value"
    near: str | None = None

    @property
    def key(self) -> str:
        """The dotted key that is named."""
        return self.keys[0]

    def below(self, prefix: str) -> "ConfigIssue":
        """Return this problem as one of the section ``prefix``."""
        near = self.near and dotted((prefix, self.near))
        return replace(self, keys=tuple(dotted((prefix, key)) for key in self.keys), near=near)

    def sentence(self) -> str:
        """Return the clause that tells it, without a full stop."""
        if self.kind == "unknown":
            hint = f"the nearest known name is {self.near}" if self.near else f"expected {self.expected}"
            return f"{self.key} = {shown(self.value)} is not a known key, {hint}"
        if self.kind == "missing":
            return f"{self.key} is missing, expected {self.expected}"
        return f"{self.key} is {shown(self.value)}, expected {self.expected}"


class ConfigError(ValueError):
    """A configuration that cannot be used: one sentence with file, key, value and what was expected."""


class Given(NamedTuple):
    """Where a configuration was read: the file, the keys overridden at another ``place``, and the searched keys."""

    file: str = "configuration"
    overridden: tuple[str, ...] = ()
    place: str = COMMAND_LINE
    searched: tuple[str, ...] = ()

    def of(self, keys: Iterable[str]) -> str:
        """Return where the first of ``keys`` that was overridden stands, else the file."""
        overridden = any(related(key, given) for key in keys for given in self.overridden)
        return self.place if overridden else self.file

    def error(self, found: Sequence[ConfigIssue]) -> ConfigError:
        """Return the first problem as a sentence with its place, and the number of the others."""
        first = found[0]
        searched = next((key for key in self.searched if inside(first.key, key)), None)
        if searched is not None and first.kind == "value":
            first = ConfigIssue((f"search.{searched}.default", *first.keys), first.value, first.expected)
        elif searched is not None:
            first = first.below("search")
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return ConfigError(f"{self.of(first.keys)}: {first.sentence()}{more}.")


def issues(error: ValidationError, model: type[BaseModel], data: Any) -> list[ConfigIssue]:
    """Return what is wrong with ``data``, one problem a key, unknown keys first.

    Several expectations of one value (the members of a union) become one, joined by "or".
    """
    found: dict[str, ConfigIssue] = {}
    for item in sorted(error.errors(include_url=False), key=lambda item: item["type"] not in _UNKNOWN):
        issue = _issue(item, model, data)
        known = found.get(issue.key)
        if known is None:
            found[issue.key] = issue
        elif issue.kind == known.kind == "value" and issue.expected not in known.expected.split(" or "):
            found[issue.key] = ConfigIssue(known.keys, known.value, f"{known.expected} or {issue.expected}")
    return sorted(found.values(), key=lambda issue: issue.kind != "unknown")


def unknown_key(key: str, value: Any, known: Iterable[str], *, elsewhere: Iterable[str] = ()) -> ConfigIssue:
    """Return the problem of a key that is not among its ``known`` siblings, nor the end of a key ``elsewhere``."""
    parent, _, last = key.rpartition(".")
    known = sorted(known)
    close = nearest(last, known)
    near = dotted((parent, close)) if close else next((k for k in elsewhere if k.endswith(f".{last}")), None)
    return ConfigIssue((key,), value, f"one of {', '.join(known)}" if known else "no key here", "unknown", near)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that ``name`` was probably meant to be, or None."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def one_of(name: str, known: Sequence[str]) -> str:
    """Return the expectation of a value among ``known`` names, with the one nearest to ``name``."""
    close = nearest(name, known)
    hint = f"; the nearest known name is {close}" if close else ""
    return (f"one of {', '.join(known)}" if known else "a name, of which there are none yet") + hint


def shown(value: Any) -> str:
    """Return ``value`` on one line, as YAML spells true, false and null, shortened where it is long."""
    try:
        text = str(value).lower() if isinstance(value, bool) else "null" if value is None else repr(value)
    except ValueError:  # Python refuses to print integers of thousands of digits
        text = f"a {type(value).__name__} too long to print"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def dotted(parts: Iterable[object]) -> str:
    """Join the parts of a key; what cannot be printed on one line is escaped."""
    texts = (str(part) for part in parts)
    return ".".join(text if text.isprintable() else repr(text) for text in texts if text)


def inside(key: str, other: str) -> bool:
    """Whether ``key`` is ``other`` or lies below it."""
    return key == other or key.startswith(f"{other}.")


def related(key: str, other: str) -> bool:
    """Whether one of two keys lies below the other."""
    return inside(key, other) or inside(other, key)


def _issue(item: ErrorDetails, model: type[BaseModel], data: Any) -> ConfigIssue:
    """Turn one error of pydantic into a problem."""
    kind, context = item["type"], item.get("ctx", {})
    parts = _path(item["loc"], data, keep_last=kind in ("missing", "invalid_key"))
    holder = _holder(model, parts)
    known = set(holder.model_fields) if holder else set()
    if kind == "invalid_key":
        value = reduce(getitem, parts[:-1], data).get(item["input"])
        return unknown_key(dotted((*parts[:-1], item["input"])), value, known)
    if kind == "extra_forbidden":
        return unknown_key(dotted(parts), item["input"], known)
    if kind == "missing":
        return _missing(parts, item["input"], holder)
    if kind == "related":
        keys = tuple(dotted((*parts, key)) for key in context["keys"])
        return ConfigIssue(keys, context["value"], context["expected"])
    return ConfigIssue((dotted(parts) or "the whole",), item["input"], _expectation(item, model, parts))


def _missing(parts: list[Any], given: Any, holder: type[BaseModel] | None) -> ConfigIssue:
    """Return the problem of an absent key: a misspelt one, where a given unknown key resembles it."""
    fields = holder.model_fields if holder else {}
    strangers = [key for key in given if isinstance(key, str) and key not in fields] if isinstance(given, dict) else []
    misspelt = nearest(str(parts[-1]), strangers)
    if misspelt is not None:
        return unknown_key(dotted((*parts[:-1], misspelt)), given[misspelt], [str(parts[-1])])
    field = fields.get(str(parts[-1]))
    return ConfigIssue((dotted(parts),), None, wanted(field.annotation) if field else "a value", "missing")


def _expectation(item: ErrorDetails, model: type[BaseModel], parts: list[Any]) -> str:
    """Say what a value should have been."""
    kind = item["type"]
    if kind in ("model_type", "model_attributes_type", "dataclass_type"):
        holder = _holder(model, [*parts, ""])
        return f"a mapping of {', '.join(holder.model_fields)}" if holder else "a mapping"
    if kind == "literal_error" and isinstance(item["input"], str):
        choices: str = item["ctx"]["expected"]
        close = nearest(item["input"], [name.strip("'") for part in choices.split(", ") for name in part.split(" or ")])
        return choices + (f"; the nearest known name is {close}" if close else "")
    if kind in _EXPECTED:
        return _EXPECTED[kind].format(**item.get("ctx", {}))
    return f"{item['msg'][:1].lower()}{item['msg'][1:]}"


def _path(location: Sequence[int | str], data: Any, *, keep_last: bool) -> list[Any]:
    """Return the keys of ``location`` that lead into ``data``; pydantic's names of union members are left out."""
    parts: list[Any] = []
    for position, part in enumerate(location):
        mapped = isinstance(data, Mapping) and part in data
        if mapped or (isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)):
            parts.append(part)
            data = data[part]
        elif keep_last and position == len(location) - 1:
            parts.append(part)
    return parts


def _holder(model: type[BaseModel] | None, parts: list[Any]) -> type[BaseModel] | None:
    """Return the model that has the last of ``parts`` as a field, following fields that are models."""
    for part in parts[:-1]:
        field = model.model_fields.get(str(part)) if model else None
        model = model_of(field.annotation) if field else None
    return model
