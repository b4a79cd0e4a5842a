"""Reading, resolving and changing the configuration of a study: one YAML, overrides, and search domains.

Reading a configuration loads no torch; only ``resolve`` imports the components that it names.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from engine.config import components
from engine.config.errors import (
    COMMAND_LINE,
    ConfigError,
    ConfigIssue,
    Given,
    booleans_as_numbers,
    inside,
    issues,
    shown,
)
from engine.config.schema import Resolved, Study, searchable
from engine.config.search import Choice, Domain, probes
from engine.config.sections import COMPONENTS, completed, completed_towers, coreset_issues
from engine.config.spaces import parse_value, read_space


def load(space: str | Path, overrides: Sequence[str] = ()) -> Study:
    """Read a space of ``tune_spaces`` by its name, or a YAML file by its path, and apply ``key=value`` overrides.

    A searched key takes the default of its domain; overriding it fixes its value and removes it from the search.
    ``resolve`` checks the options of components.

    Raises:
        ConfigError: the space cannot be found or read, or something in it or in an override is wrong.
    """
    name, tree = read_space(space)
    values = parse_overrides(overrides)
    return _changed(tree, values, Given(name, tuple(values)))


def recorded(sections: Mapping[str, Any], overrides: Sequence[str] = (), *, place: str) -> Study:
    """Return the study whose ``sections`` a set holds, with overrides; errors name their origin ``place``.

    Raises:
        ConfigError: data, student or method are missing, or something in them or in an override is wrong.
    """
    values = parse_overrides(overrides)
    return _changed({key: sections[key] for key in Study.model_fields if key in sections}, values,
                    Given(place, tuple(values)))  # fmt: skip


def change(study: Study, values: Mapping[str, Any], *, place: str) -> Study:
    """Return ``study`` with other values at dotted keys, which leave its search; errors name their origin ``place``.

    Raises:
        ConfigError: a key does not exist or a value does not fit.
    """
    return _changed(study.model_dump(), values, Given(study._given.file, tuple(values), place))


def resolve(study: Study) -> Resolved:
    """Return ``study`` with all defaults of its components after checking their options and its search.

    A resolved study is returned as it is.

    Raises:
        ConfigError: a component, an option or a search domain does not exist or does not fit.
    """
    return study if isinstance(study, Resolved) else _resolved(study, Study.model_fields)


def assign(study: Resolved, values: Mapping[str, Any]) -> Resolved:
    """Return the study of one trial: dotted keys take the given values and leave the search.

    Only the sections of these keys are validated.

    Raises:
        ConfigError: a key does not exist or a value does not fit it.
    """
    given = Given(study._given.file, tuple(values), "trial")
    tree: dict[str, Any] = {name: getattr(study, name) for name in Study.model_fields}
    changed = {key.partition(".")[0] for key in values}
    for name in changed & tree.keys():
        tree[name] = tree[name].model_dump() if isinstance(tree[name], BaseModel) else tree[name]
    tree["search"] = {key: domain for key, domain in study.search.items() if not any(inside(key, k) for k in values)}
    for key, value in values.items():
        _put(tree, key, value, given)
    return _resolved(_validated(tree, given), changed)


def as_yaml(study: Study) -> str:
    """Return the configuration as YAML that ``load`` reads back."""
    text: str = yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    return text


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Return the values of ``key=value`` words by their dotted keys.

    Raises:
        ConfigError: a word is no override, or a key is repeated.
    """
    values: dict[str, Any] = {}
    for word in words:
        key, value = _override(word)
        if key in values:
            raise ConfigError(f"{COMMAND_LINE}: {key} is given twice, expected one value.")
        values[key] = value
    return values


def _override(word: str) -> tuple[str, Any]:
    key, equals, text = word.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"{COMMAND_LINE}: {word!r} is no override, expected key=value such as method.inner_steps=8.")
    return key, parse_value(text, f"{COMMAND_LINE}: the value of {key}")


def _changed(tree: dict[str, Any], values: Mapping[str, Any], given: Given) -> Study:
    """Return the study of ``tree`` with ``values`` at dotted keys and the defaults of its search domains."""
    tree = _copied(tree)
    for key, value in values.items():
        _put(tree, key, value, given)
    if isinstance(search := tree.get("search"), dict):
        fixed = [key for key in values if not inside(key, "search")]
        search = {key: domain for key, domain in search.items() if not any(inside(str(key), k) for k in fixed)}
        tree["search"] = search
        given = given._replace(searched=tuple(filter(searchable, search)))
        for key in given.searched:
            _put_default(tree, key, search[key], given)
    return _validated(tree, given)


def _put_default(tree: dict[str, Any], key: str, domain: Any, given: Given) -> None:
    """Put the default of a search domain into ``tree``, which may not hold another value or a domain around it."""
    if parent := next((other for other in given.searched if other != key and inside(key, other)), None):
        raise given.error([ConfigIssue((f"search.{key}",), domain, f"no domain beside that of {parent}")])
    if isinstance(domain, dict) and "default" in domain:
        present, default = _get(tree, key), domain["default"]
        if present is not None and present != default and str(present) != str(default):
            expected = f"its default in search, {shown(default)}, or no value here"
            raise given._replace(searched=()).error([ConfigIssue((key,), present, expected)])
        _put(tree, key, default, given)


def _validated(tree: dict[str, Any], given: Given) -> Study:
    """Validate ``tree``; sections that are validated models already are taken as they are."""
    try:
        study = Study.model_validate(tree)
    except ValidationError as error:
        raise given.error(issues(error, Study, tree)) from error
    except RecursionError as error:
        raise ConfigError(f"{given.file}: the configuration is nested too deeply, expected a few levels.") from error
    if found := list(booleans_as_numbers(tree, study)):
        raise given.error(found)
    study._given = given
    return study


def _resolved(study: Study, changed: Collection[str]) -> Resolved:
    """Return a validated study after resolving the components and domains of its ``changed`` sections."""
    given, found = study._given, list[ConfigIssue]()
    sections: dict[str, Any] = {name: getattr(study, name) for name in Study.model_fields}
    for key, (family, word) in COMPONENTS.items():
        section, _, tower = key.partition(".")
        if section not in changed:
            continue
        value = getattr(sections[section], tower) if tower else sections[section]
        value = completed(value, family, word, key, found)
        sections[section] = sections[section].model_copy(update={tower: value}) if tower else value
    if "students" in changed:
        sections["students"] = [completed_towers(one, index, found) for index, one in enumerate(study.students)]
    found += coreset_issues(study) if "baselines" in changed else []
    if found:
        raise given.error(found)
    resolved = Resolved.model_construct(**sections)
    resolved._given = given
    if "search" in changed and study.search:
        checked = {key: _checked_domain(resolved, key, domain) for key, domain in study.search.items()}
        resolved = Resolved.model_construct(**{**sections, "search": checked})
        resolved._given = given
    return resolved


def _checked_domain(study: Resolved, key: str, domain: Domain) -> Domain:
    """Try the values of a domain; return it with choices of the type of the searched field.

    Raises:
        ConfigError: a value does not fit.
    """
    alone = Resolved.model_construct(**{**dict(study), "search": {}})
    taken = []
    for value in probes(domain):
        try:
            tried = assign(alone, {key: value})
        except ConfigError as error:
            first = error.issues[0]
            expected = first.expected if first.key == key else f"what {first.key} can take, {first.expected}"
            place = study._given.of([f"search.{key}"])
            raise ConfigError(f"{place}: search.{key} holds {shown(value)}, expected {expected}.") from error
        taken.append(_get(tried.model_dump(), key))
    if not isinstance(domain, Choice):
        return domain
    default = taken[next(index for index, value in enumerate(domain.values) if value == domain.default)]
    return Choice(values=tuple(taken), default=default)


def _copied(tree: Any) -> Any:
    """Copy nested mappings and lists."""
    if isinstance(tree, dict):
        return {key: _copied(value) for key, value in tree.items()}
    return [_copied(value) for value in tree] if isinstance(tree, list | tuple) else tree


def _get(tree: Any, key: str) -> Any:
    """Return the value at a dotted key, or None; one plain value stands for both towers."""
    for part in key.split("."):
        both = part in components.MODALITIES and not isinstance(tree, dict)
        tree = tree if both else tree.get(part) if isinstance(tree, dict) else None
    return tree


def _put(tree: dict[str, Any], key: str, value: Any, given: Given) -> None:
    """Set a dotted key in place; the keys of ``search`` contain dots. One plain value is split into both towers."""
    parts = ["search", key.removeprefix("search.")] if key.startswith("search.") else key.split(".")
    for depth, part in enumerate(parts[:-1]):
        inner = tree.get(part)
        if inner is None or (not isinstance(inner, dict) and parts[depth + 1] in components.MODALITIES):
            inner = {} if inner is None else dict.fromkeys(components.MODALITIES, inner)
        if not isinstance(inner, dict):
            parent = ".".join(parts[: depth + 1])
            raise given.error([ConfigIssue((key, parent), value, f"no key below {parent}, which is {shown(inner)}")])
        tree[part] = inner
        tree = inner
    tree[parts[-1]] = value
