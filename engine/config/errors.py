"""One-sentence errors for configurations: file, key, value, and the expected value."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import reduce
from operator import getitem
from typing import Any, Literal, NamedTuple, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from engine.io.sentences import nearest, shown

COMMAND_LINE = "command line"
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument", "invalid_key")
_WANTED = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}
_EXPECTED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "an integer"),
    "int_parsing_size": "an integer of a reasonable size",
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    "finite_number": "a finite number",
    "string_type": "a text",
    "string_too_short": "a text that is not empty",
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    "none_required": "null",
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    **dict.fromkeys(("dict_type", "mapping_type"), "a mapping"),
    "path_type": "a path",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    **dict.fromkeys(("literal_error", "expected"), "{expected}"),
    "too_short": "a list of {min_length} or more",
    "too_long": "a list of {max_length} or fewer",
    "value_error": "values that fit together ({error})",
}


@dataclass(frozen=True)
class ConfigIssue:
    """An error in a mapping; ``keys`` are the dotted keys involved, of which messages name the first.

    ``near`` is the known key most similar to an unknown one.
    """

    keys: tuple[str, ...]
    value: Any
    expected: str
    kind: Literal["value", "missing", "unknown"] = "value"
    near: str | None = None

    @property
    def key(self) -> str:
        """The dotted key that messages name."""
        return self.keys[0]

    def below(self, prefix: str) -> "ConfigIssue":
        """Return this issue with its keys moved below ``prefix``."""
        near = self.near and dotted((prefix, self.near))
        return replace(self, keys=tuple(dotted((prefix, key)) for key in self.keys), near=near)

    def sentence(self) -> str:
        """Return the message without a full stop."""
        if self.kind == "unknown":
            hint = f"the nearest known name is {self.near}" if self.near else f"expected {self.expected}"
            return f"{self.key} = {shown(self.value)} is not a known key, {hint}"
        if self.kind == "missing":
            return f"{self.key} is missing, expected {self.expected}"
        return f"{self.key or 'the whole'} is {shown(self.value)}, expected {self.expected}"


class ConfigError(ValueError):
    """A configuration that cannot be used: one sentence with file, key, value and the expected value."""

    issues: Sequence[ConfigIssue] = ()

    @classmethod
    def of(cls, place: str, found: Sequence[ConfigIssue]) -> "ConfigError":
        """Return the error that names ``place`` and the first issue, and counts the others."""
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        error = cls(f"{place}: {found[0].sentence()}{more}.")
        error.issues = found
        return error


class Given(NamedTuple):
    """Origin of a configuration: its file, the keys overridden at another ``place``, and the searched keys."""

    file: str = "configuration"
    overridden: tuple[str, ...] = ()
    place: str = COMMAND_LINE
    searched: tuple[str, ...] = ()

    def of(self, keys: Iterable[str]) -> str:
        """Return ``place`` if one of ``keys`` was overridden, else the file."""
        overridden = any(inside(a, b) or inside(b, a) for a in keys for b in self.overridden)
        return self.place if overridden else self.file

    def error(self, found: Sequence[ConfigIssue]) -> ConfigError:
        """Return the error of ``found`` with its origin."""
        first = found[0]
        searched = next((key for key in self.searched if inside(first.key, key)), None)
        if searched is not None and first.kind == "value":
            first = ConfigIssue((f"search.{searched}.default", *first.keys), first.value, first.expected)
        elif searched is not None:
            first = first.below("search")
        return ConfigError.of(self.of(first.keys), [first, *found[1:]])


def issues(error: ValidationError, kind: type, data: Any) -> list[ConfigIssue]:
    """Return the issues of ``data``, which is no ``kind`` (a model or a dataclass): one per key, unknown keys first.

    Several expectations of one value (the members of a union) are joined by "or".
    """
    found: dict[str, ConfigIssue] = {}
    for item in sorted(error.errors(include_url=False), key=lambda item: item["type"] not in _UNKNOWN):
        issue = _issue(item, kind, data)
        known = found.setdefault(issue.key, issue)
        both = issue is not known and issue.kind == known.kind == "value"
        if both and issue.expected not in known.expected.split(" or "):
            found[issue.key] = replace(known, expected=f"{known.expected} or {issue.expected}")
    return sorted(found.values(), key=lambda issue: issue.kind != "unknown")


def booleans_as_numbers(given: Any, taken: Any, key: str = "") -> Iterator[ConfigIssue]:
    """Yield an issue for each boolean of ``given`` that validation turned into a number of ``taken``."""
    if isinstance(given, Mapping):
        for name, value in given.items():
            inner = taken.get(name) if isinstance(taken, Mapping) else getattr(taken, str(name), None)
            yield from booleans_as_numbers(value, inner, dotted((key, name)))
    elif isinstance(given, list | tuple) and isinstance(taken, list | tuple):
        for index, (value, inner) in enumerate(zip(given, taken, strict=False)):
            yield from booleans_as_numbers(value, inner, dotted((key, index)))
    elif isinstance(given, bool):
        number = type(getattr(taken, "image", taken))  # one value may stand for both modalities
        if number in (int, float):
            yield ConfigIssue((key,), given, _WANTED[number])


def unknown_key(key: str, value: Any, known: Iterable[str], *, elsewhere: Iterable[str] = ()) -> ConfigIssue:
    """Return the issue of a key that is neither one of its ``known`` siblings nor the end of a key ``elsewhere``."""
    parent, _, last = key.rpartition(".")
    known = sorted(known)
    close = nearest(last, known)
    near = dotted((parent, close)) if close else next((k for k in elsewhere if k.endswith(f".{last}")), None)
    return ConfigIssue((key,), value, f"one of {', '.join(known)}" if known else "no key here", "unknown", near)


def one_of(name: str, known: Sequence[str]) -> str:
    """Return the expectation of a value among ``known`` names, with the one most similar to ``name``."""
    close = nearest(name, known)
    hint = f"; the nearest known name is {close}" if close else ""
    return (f"one of {', '.join(known)}" if known else "a name, of which there are none yet") + hint


def dotted(parts: Iterable[object]) -> str:
    """Join the parts of a key; unprintable characters are escaped."""
    texts = (str(part) for part in parts)
    return ".".join(text if text.isprintable() else repr(text) for text in texts if text)


def inside(key: str, other: str) -> bool:
    """Return whether ``key`` is ``other`` or lies below it."""
    return key == other or key.startswith(f"{other}.")


def fields_of(kind: type | None) -> dict[str, Any]:
    """Return the annotations of the fields of a pydantic model or a dataclass by their names."""
    if kind is None:
        return {}
    if issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cast(Any, kind)) if field.init}


def record_in(annotation: Any) -> type | None:
    """Return the model or the dataclass in an annotation such as ``Kind`` or ``Kind | None``, if any."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation if issubclass(annotation, BaseModel) or is_dataclass(annotation) else None
    if get_origin(annotation) in (list, tuple, dict, Literal):
        return None
    return next((found for found in map(record_in, get_args(annotation)) if found is not None), None)


def _issue(item: ErrorDetails, kind: type, data: Any) -> ConfigIssue:
    """Translate one error of pydantic."""
    parts = _path(item["loc"], data, keep_last=item["type"] in ("missing", "invalid_key"))
    holder: type | None = kind
    for part in parts[:-1]:
        holder = record_in(fields_of(holder).get(str(part)))
    known, value, key = fields_of(holder), item["input"], dotted(parts)
    match item["type"]:
        case "invalid_key":
            return unknown_key(dotted((*parts[:-1], value)), reduce(getitem, parts[:-1], data).get(value), known)
        case "extra_forbidden" | "unexpected_keyword_argument":
            return unknown_key(key, value, known, elsewhere=_keys_of(kind, ""))
        case "missing":
            strangers = [key for key in value if isinstance(key, str) and key not in known]
            if misspelt := nearest(str(parts[-1]), strangers):
                return unknown_key(dotted((*parts[:-1], misspelt)), value[misspelt], [str(parts[-1])])
            return ConfigIssue((key,), None, _wanted(known.get(str(parts[-1]))), "missing")
        case "related":
            keys = tuple(dotted((*parts, name)) for name in item["ctx"]["keys"])
            return ConfigIssue(keys, item["ctx"]["value"], item["ctx"]["expected"])
        case "model_type" | "model_attributes_type" | "dataclass_type":
            return ConfigIssue((key,), value, _wanted(known.get(str(parts[-1])) if parts else kind))
    expected = _EXPECTED.get(item["type"], item["msg"][:1].lower() + item["msg"][1:])
    if item["type"] == "literal_error" and isinstance(value, str):
        choices = [name.strip("'") for part in item["ctx"]["expected"].split(", ") for name in part.split(" or ")]
        close = nearest(value, choices)
        expected += f"; the nearest known name is {close}" if close else ""
    return ConfigIssue((key,), value, expected.format(**item.get("ctx", {})) if item["type"] in _EXPECTED else expected)


def _keys_of(kind: type, prefix: str) -> Iterator[str]:
    """Yield the dotted keys of a model and of the records in it."""
    for name, annotation in fields_of(kind).items():
        key = dotted((prefix, name))
        yield key
        if inner := record_in(annotation):
            yield from _keys_of(inner, key)


def _wanted(annotation: Any) -> str:
    """Return a description of the values that a field of this annotation accepts."""
    if record := record_in(annotation):
        return f"a mapping of {', '.join(fields_of(record))}"
    text = {kind: name for kind, name in _WANTED.items() if kind in _plain_types(annotation)}
    return " or ".join(text.values()) or "a value"


def _plain_types(annotation: Any) -> set[Any]:
    """Return the plain types of an annotation; of a literal, the types of its values."""
    if get_origin(annotation) is Literal:
        return {type(value) for value in get_args(annotation)}
    return {annotation} if not get_args(annotation) else set().union(*map(_plain_types, get_args(annotation)))


def _path(location: Sequence[int | str], data: Any, *, keep_last: bool) -> list[Any]:
    """Return the keys of ``location`` that exist in ``data``, without pydantic's names of union members."""
    parts: list[Any] = []
    for position, part in enumerate(location):
        mapped = isinstance(data, Mapping) and part in data
        if mapped or (isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)):
            parts.append(part)
            data = data[part]
        elif keep_last and position == len(location) - 1:
            parts.append(part)
    return parts
