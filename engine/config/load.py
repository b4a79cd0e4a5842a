"""The configuration of a study: one YAML, ``key=value`` overrides, and search domains.

Reading a configuration loads no torch; only ``resolve`` imports the components that a configuration names.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError

from engine.config import components
from engine.config.errors import (
    COMMAND_LINE,
    ConfigError,
    ConfigIssue,
    Given,
    dotted,
    inside,
    issues,
    one_of,
    shown,
    unknown_key,
)
from engine.config.schema import SEARCHABLE, Published, Study, Tower
from engine.config.search import Choice, Domain, probes, spell
from engine.config.spaces import parse_yaml, read_space, spaces
from engine.config.strict import Strict, model_of
from engine.io.files import digest
from engine.io.storage import Location, as_file

__all__ = [
    "ConfigError",
    "Study",
    "Tower",
    "as_yaml",
    "assign",
    "experts_identity",
    "identity",
    "load",
    "parse_overrides",
    "published_in",
    "resolve",
    "spaces",
]


def load(space: str | Path, overrides: Sequence[str] = ()) -> Study:
    """Read a space of ``tune_spaces`` by its name, or a YAML file by its path, and apply ``key=value`` overrides.

    The default of a searched key becomes its value; overriding a searched key fixes it and takes it out of the search.
    Options of components are checked by ``resolve``.

    Raises:
        ConfigError: the space cannot be found or read, or something in it or in an override is wrong.
    """
    name, tree = read_space(space)
    return _study(tree, [_override(word) for word in overrides], name)


def resolve(study: Study) -> Study:
    """Return ``study`` with every default of its components filled in, after checking their options and the search.

    ``model_dump()`` of the result is the resolved configuration as plain values. Resolving twice changes nothing.

    Raises:
        ConfigError: a component, an option or a search domain does not exist or does not fit.
    """
    given = study._given
    tree, found = _completed(study.model_dump())
    for index, name in enumerate(study.baselines.coresets):
        found += _component_issue("coreset", name, f"baselines.coresets.{index}")
    for name, options in study.baselines.options.items():
        found += _coreset_issues(name, options) if name in components.names("coreset") else []
    if found:
        raise given.error(found)
    tree["search"] = {key: _checked_domain(tree, key, domain, given) for key, domain in study.search.items()}
    return _with_given(_validated(tree, given), given)


def assign(study: Study, values: Mapping[str, Any]) -> Study:
    """Return the resolved study of one trial: dotted keys take the given values and leave the search.

    Raises:
        ConfigError: a key does not exist or a value does not fit it.
    """
    return resolve(_study(study.model_dump(), list(values.items()), study._given.file, place="trial"))


def identity(study: Study) -> str:
    """Return the digest of the resolved configuration with its seed, without what changes no result."""
    tree = {k: v for k, v in _resolved(study).items() if k not in ("resources", "note", "storage", "published")}
    return _digest("study/1", {**tree, "experts": {k: v for k, v in tree["experts"].items() if k != "damaged"}})


def experts_identity(study: Study) -> str:
    """Return the digest of what determines expert trajectories; more experts or epochs extend the same store."""
    tree = _resolved(study)
    experts = {key: value for key, value in tree["experts"].items() if key not in ("count", "epochs", "damaged")}
    return _digest("experts/1", {**{key: tree[key] for key in ("data", "student", "seed")}, "experts": experts})


def published_in(path: Location) -> list[Published]:
    """Return the published rows of a configuration that a study left behind, of whatever version; none of no file.

    Raises:
        ConfigError: the file is no YAML, or its rows are not such rows.
    """
    if not path.is_file():
        return []
    with as_file(path) as file:
        rows = read_space(file)[1].get("published", [])
    try:
        return [Published.model_validate(row) for row in rows]
    except (ValidationError, TypeError) as error:
        raise ConfigError(f"{path}: published holds {shown(rows)}, expected rows of a published table.") from error


def as_yaml(study: Study) -> str:
    """Return the configuration as YAML that ``load`` reads back."""
    text: str = yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    return text


@dataclass(frozen=True)
class _Section:
    """Where a component stands in the configuration."""

    key: str
    family: str
    word: str


_SECTIONS = (
    _Section("data", "data", "name"),
    _Section("student.image", "image", "encoder"),
    _Section("student.text", "text", "encoder"),
    _Section("method", "method", "name"),
)


def _study(
    tree: dict[str, Any], overrides: Sequence[tuple[str, Any]], name: str, *, place: str = COMMAND_LINE
) -> Study:
    """Build the study of a configuration tree and overrides of it, which come from another ``place``."""
    tree = _copied(tree)
    given = Given(name, tuple(key for key, _ in overrides), place)
    repeated = next((key for index, key in enumerate(given.overridden) if key in given.overridden[:index]), None)
    if repeated is not None:
        raise ConfigError(f"{place}: {repeated} is given twice, expected one value.")
    for key, value in overrides:
        _put(tree, key, value, given)
    given = _put_defaults(tree, given)
    return _with_given(_validated(tree, given), given)


def _put_defaults(tree: dict[str, Any], given: Given) -> Given:
    """Put the defaults of searched keys into ``tree`` and take overridden keys out of its search."""
    search = tree.get("search")
    if not isinstance(search, dict):
        return given
    fixed = [key for key in given.overridden if not inside(key, "search")]
    tree["search"] = {
        key: domain for key, domain in search.items() if not any(inside(str(key), other) for other in fixed)
    }
    given = given._replace(searched=tuple(key for key in tree["search"] if _searchable(key)))
    for key in given.searched:
        domain = tree["search"][key]
        parent = next((other for other in given.searched if other != key and inside(key, other)), None)
        if parent is not None:
            raise given.error([ConfigIssue((f"search.{key}",), domain, f"no domain beside that of {parent}")])
        if isinstance(domain, dict) and "default" in domain:
            _agree(tree, key, domain["default"], given)
            _put(tree, key, domain["default"], given)
    return given


def _agree(tree: dict[str, Any], key: str, default: Any, given: Given) -> None:
    """Refuse a value beside a search domain with another default."""
    present = _get(tree, key)
    if present is not None and present != default and str(present) != str(default):
        given = given._replace(searched=())
        raise given.error([ConfigIssue((key,), present, f"its default in search, {shown(default)}, or no value here")])


def _validated(tree: dict[str, Any], given: Given) -> Study:
    """Validate ``tree``, telling unknown keys apart by all keys that there are."""
    try:
        return Study.model_validate(tree)
    except ValidationError as error:
        found = [
            unknown_key(p.key, p.value, _siblings(p.key), elsewhere=_all_keys()) if p.kind == "unknown" else p
            for p in issues(error, Study, tree)
        ]
        raise given.error(found) from error
    except RecursionError as error:
        raise ConfigError(f"{given.file}: the configuration is nested too deeply, expected a few levels.") from error


def _with_given(study: Study, given: Given) -> Study:
    """Remember in ``study`` where it was read."""
    study._given = given
    return study


def _resolved(study: Study) -> dict[str, Any]:
    """Return the resolved configuration as JSON values."""
    return resolve(study).model_dump(mode="json")


def _digest(kind: str, tree: Mapping[str, Any]) -> str:
    """Return the digest of JSON values."""
    return digest(kind, json.dumps(tree, sort_keys=True))


def _completed(tree: dict[str, Any]) -> tuple[dict[str, Any], list[ConfigIssue]]:
    """Return a copy of ``tree`` with the options of all components complete, and what is wrong with them."""
    tree = _copied(tree)
    found: list[ConfigIssue] = []
    for section in _SECTIONS:
        found += _complete(_get(tree, section.key), section)
    return tree, found


def _complete(values: dict[str, Any], section: _Section) -> list[ConfigIssue]:
    """Fill the options of one component into its section, in place, and return what is wrong with them."""
    name = values[section.word]
    wrong = _component_issue(section.family, name, f"{section.key}.{section.word}")
    if wrong:
        return wrong
    entry = components.find(section.family, name)
    static = _static_keys(section)
    model = components.options(entry)
    given = {key: value for key, value in values.items() if key not in static or key in model.model_fields}
    try:
        options = model.model_validate(given)
        components.bind(section.family, name, given)
    except ValidationError as error:
        known = {*model.model_fields, *static}
        found = [unknown_key(p.key, p.value, known) if _top_unknown(p) else p for p in issues(error, model, given)]
        return [issue.below(section.key) for issue in found]
    except ValueError as error:
        return [ConfigIssue((section.key,), values, f"options that fit together: {str(error).rstrip('.')}")]
    values.update(options.model_dump(mode="json"))
    return []


def _coreset_issues(name: str, given: dict[str, Any]) -> list[ConfigIssue]:
    """Return what is wrong with the options of a coreset."""
    model = components.options(components.find("coreset", name))
    try:
        model.model_validate(given)
    except ValidationError as error:
        found = issues(error, model, given)
        told = [unknown_key(p.key, p.value, set(model.model_fields)) if p.kind == "unknown" else p for p in found]
        return [issue.below(f"baselines.options.{name}") for issue in told]
    return []


def _top_unknown(issue: ConfigIssue) -> bool:
    """Whether an unknown key stands directly in its section."""
    return issue.kind == "unknown" and "." not in issue.key


def _static_keys(section: _Section) -> set[str]:
    """Return the keys of a section that are no options of its component."""
    model = model_of(Study)
    for part in section.key.split("."):
        model = model_of(model.model_fields[part].annotation) if model else None
    return set(model.model_fields) if model else set()


def _component_issue(family: str, name: str, key: str) -> list[ConfigIssue]:
    """Return the problem of a component that does not exist, or nothing."""
    known = components.names(family)
    return [] if name in known else [ConfigIssue((key,), name, one_of(name, known))]


def _checked_domain(tree: dict[str, Any], key: str, domain: Domain, given: Given) -> dict[str, Any]:
    """Try the values of a domain in the resolved ``tree``; return it spelled with values of the field's own type."""
    taken = [_tried(tree, key, value, given) for value in probes(domain)]
    if not isinstance(domain, Choice):
        return spell(domain)
    default = taken[next(index for index, value in enumerate(domain.values) if value == domain.default)]
    return {"choice": taken, "default": default}


def _tried(tree: dict[str, Any], key: str, value: Any, given: Given) -> Any:
    """Return ``value`` as the configuration takes it at ``key``."""
    trial = _copied(tree)
    trial["search"] = {}
    _put(trial, key, value, given)
    try:
        trial, found = _completed(Study.model_validate(trial).model_dump())
    except ValidationError as error:
        found = issues(error, Study, trial)
    if found:
        first = found[0]
        expected = first.expected if first.key == key else f"what {first.key} can take, {first.expected}"
        raise ConfigError(f"{given.of([f'search.{key}'])}: search.{key} holds {shown(value)}, expected {expected}.")
    return _get(trial, key)


def _copied(tree: Any) -> Any:
    """Copy nested mappings and lists."""
    if isinstance(tree, dict):
        return {key: _copied(value) for key, value in tree.items()}
    return [_copied(value) for value in tree] if isinstance(tree, list | tuple) else tree


def _get(tree: Any, key: str) -> Any:
    """Return the value at a dotted key, or None; one plain value stands for both towers."""
    for part in key.split("."):
        both = part in ("image", "text") and not isinstance(tree, dict)
        tree = tree if both else tree.get(part) if isinstance(tree, dict) else None
    return tree


def _put(tree: dict[str, Any], key: str, value: Any, given: Given) -> None:
    """Set a dotted key in place; keys of ``search`` have dots themselves. One plain value is split into both towers."""
    parts = ["search", key.removeprefix("search.")] if key.startswith("search.") else key.split(".")
    for depth, part in enumerate(parts[:-1]):
        inner = tree.get(part)
        if inner is None or (not isinstance(inner, dict) and parts[depth + 1] in ("image", "text")):
            inner = {} if inner is None else dict.fromkeys(("image", "text"), inner)
        if not isinstance(inner, dict):
            parent = ".".join(parts[: depth + 1])
            raise given.error([ConfigIssue((key, parent), value, f"no key below {parent}, which is {shown(inner)}")])
        tree[part] = inner
        tree = inner
    tree[parts[-1]] = value


def _searchable(key: Any) -> bool:
    """Whether a key of ``search`` may be searched, and so has its default put into the configuration."""
    return isinstance(key, str) and any(key.startswith(f"{section}.") for section in SEARCHABLE)


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Return the values of ``key=value`` words by their dotted keys; of a repeated key the last.

    Raises:
        ConfigError: a word is no override.
    """
    return dict(_override(word) for word in words)


def _override(word: str) -> tuple[str, Any]:
    """Split ``key=value`` and read the value as YAML."""
    key, equals, text = word.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"{COMMAND_LINE}: {word!r} is no override, expected key=value such as method.inner_steps=8.")
    return key, parse_yaml(text, f"{COMMAND_LINE}: the value of {key}")


def _siblings(key: str) -> set[str]:
    """Return the keys of the section that ``key`` stands in."""
    parent = key.rpartition(".")[0]
    return {other.removeprefix(f"{parent}.") for other in _all_keys() if other.rpartition(".")[0] == parent}


def _all_keys() -> list[str]:
    """Return all dotted keys of a study but the options of components."""
    return list(_keys_of(Study, ""))


def _keys_of(model: type[Strict], prefix: str) -> Iterator[str]:
    """Yield the dotted keys of a model and of the models in it."""
    for name, field in model.model_fields.items():
        key = dotted((prefix, name))
        yield key
        inner = model_of(field.annotation)
        if inner is not None:
            yield from _keys_of(cast(type[Strict], inner), key)
