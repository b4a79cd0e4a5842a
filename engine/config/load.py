"""Reading, resolving and changing the configuration of a study: one YAML, overrides, and search domains.

Reading a configuration loads no torch; only ``resolve`` imports the components that it names.
"""

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
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
    fields_of,
    inside,
    issues,
    one_of,
    unknown_key,
)
from engine.config.schema import Resolved, Study, searchable
from engine.config.search import Choice, Domain, probes
from engine.config.spaces import parse_value, read_space
from engine.io.sentences import shown

COMPONENTS = {
    "data": ("data", "name"),
    "student.image": ("image", "encoder"),
    "student.text": ("text", "encoder"),
    "method": ("method", "name"),
}
"""The sections that name a component: its family, and the key of its name."""


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
        key, equals, text = word.partition("=")
        if not equals or not all(key.split(".")):
            example = "method.inner_steps=8"
            raise ConfigError(f"{COMMAND_LINE}: {word!r} is no override, expected key=value such as {example}.")
        value = parse_value(text, f"{COMMAND_LINE}: the value of {key}")
        if key in values:
            raise ConfigError(f"{COMMAND_LINE}: {key} is given twice, expected one value.")
        values[key] = value
    return values


def _changed(tree: dict[str, Any], values: Mapping[str, Any], given: Given) -> Study:
    """Return the study of ``tree`` with ``values`` at dotted keys and the defaults of its search domains."""
    tree = deepcopy(tree)
    for key, value in values.items():
        _put(tree, key, value, given)
    if not isinstance(search := tree.get("search"), dict):
        return _validated(tree, given)
    fixed = [key for key in values if not inside(key, "search")]
    tree["search"] = {key: domain for key, domain in search.items() if not any(inside(str(key), k) for k in fixed)}
    given = given._replace(searched=tuple(filter(searchable, tree["search"])))
    for key in given.searched:
        domain = search[key]
        if parent := next((other for other in given.searched if other != key and inside(key, other)), None):
            raise given.error([ConfigIssue((f"search.{key}",), domain, f"no domain beside that of {parent}")])
        if isinstance(domain, dict) and "default" in domain:
            present, default = _get(tree, key), domain["default"]
            if present is not None and present != default and str(present) != str(default):
                expected = f"its default in search, {shown(default)}, or no value here"
                raise given._replace(searched=()).error([ConfigIssue((key,), present, expected)])
            _put(tree, key, default, given)
    return _validated(tree, given)


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
    for key in COMPONENTS:
        section, _, tower = key.partition(".")
        if section not in changed:
            continue
        value = getattr(sections[section], tower) if tower else sections[section]
        value = _with_options(value, key, found)
        sections[section] = sections[section].model_copy(update={tower: value}) if tower else value
    if "students" in changed:
        sections["students"] = []
        for index, one in enumerate(study.students):
            own = {name: tower for name, tower in one if tower is not None}
            for name, tower in own.items():
                own[name] = _with_options(tower, f"student.{name}", found, at=f"students.{index}.{name}")
            sections["students"].append(one.model_copy(update=own))
    found += _coreset_issues(study) if "baselines" in changed else []
    if found:
        raise given.error(found)
    resolved = Resolved.model_construct(**sections)
    resolved._given = given
    if "search" in changed and study.search:
        checked = {key: _checked_domain(resolved, key, domain) for key, domain in study.search.items()}
        resolved = Resolved.model_construct(**{**sections, "search": checked})
        resolved._given = given
    return resolved


def _with_options(section: Any, key: str, found: list[ConfigIssue], *, at: str = "") -> Any:
    """Return a section of the kind ``key`` with all options of the component that it names, as values of JSON.

    A component or an option that does not exist, or a value that does not fit, is an issue that is added to ``found``;
    the section is ``at`` that key in the study, if not at ``key``.
    """
    (family, word), at = COMPONENTS[key], at or key
    name, known = getattr(section, word), components.names(family)
    if name not in known:
        found.append(ConfigIssue((f"{at}.{word}",), name, one_of(name, known)))
        return section
    entry, static = components.find(family, name), set(type(section).model_fields)
    own = fields_of(components.options(entry))
    given = {option: value for option, value in section.model_dump().items() if option not in static or option in own}
    try:
        return section.model_copy(update=components.plain(components.validated(entry, given)))
    except ConfigError as error:
        for issue in error.issues:
            at_top = issue.kind == "unknown" and "." not in issue.key
            issue = unknown_key(issue.key, issue.value, {*own, *static}) if at_top else issue
            found.append(issue.below(at))
        return section


def _coreset_issues(study: Study) -> list[ConfigIssue]:
    """Return the issues of the names and the options of the coresets."""
    known, found = components.names("coreset"), list[ConfigIssue]()
    for index, name in enumerate(study.baselines.coresets):
        if name not in known:
            found.append(ConfigIssue((f"baselines.coresets.{index}",), name, one_of(name, known)))
    for name in known:
        try:
            components.validated(components.find("coreset", name), study.baselines.options.get(name, {}))
        except ConfigError as error:
            found += [issue.below(f"baselines.options.{name}") for issue in error.issues]
    return found


def _checked_domain(study: Resolved, key: str, domain: Domain) -> Domain:
    """Try the values of a domain; return it with choices of the type of the searched field."""
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
        found = _get(tried.model_dump(), key)  # which lacks options of every method at their defaults
        taken.append(getattr(tried.method, key.removeprefix("method."), None) if found is None else found)
    if not isinstance(domain, Choice):
        return domain
    default = taken[next(index for index, value in enumerate(domain.values) if value == domain.default)]
    return Choice(values=tuple(taken), default=default)


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
