"""The options of the components that the sections of a study name, checked and with all defaults."""

from typing import Any

from pydantic import BaseModel

from engine.config import components
from engine.config.errors import ConfigError, ConfigIssue, fields_of, one_of, unknown_key
from engine.config.schema import Study
from engine.config.student import FurtherStudent

COMPONENTS = {
    "data": ("data", "name"),
    "student.image": ("image", "encoder"),
    "student.text": ("text", "encoder"),
    "method": ("method", "name"),
}
"""The sections that name a component: its family, and the key of its name."""


def completed(section: Any, family: str, word: str, key: str, found: list[ConfigIssue]) -> Any:
    """Return a section at ``key`` with all options of the component that it names; issues are added to ``found``."""
    try:
        return section.model_copy(update=_options(section, family, getattr(section, word), word))
    except ConfigError as error:
        found += [issue.below(key) for issue in error.issues]
        return section


def completed_towers(student: FurtherStudent, index: int, found: list[ConfigIssue]) -> FurtherStudent:
    """Return a further student with all options of its encoders; issues are added to ``found``."""
    towers = {}
    for name, tower in student:
        if tower is not None:
            family, word = COMPONENTS[f"student.{name}"]
            towers[name] = completed(tower, family, word, f"students.{index}.{name}", found)
    return student.model_copy(update=towers)


def _options(section: BaseModel, family: str, name: str, word: str) -> dict[str, Any]:
    """Return all options of the component that a section names, as values of JSON.

    Raises:
        ConfigError: the component or an option does not exist, or a value does not fit; its keys are of the section.
    """
    known = components.names(family)
    if name not in known:
        raise ConfigError.of(family, [ConfigIssue((word,), name, one_of(name, known))])
    entry, static = components.find(family, name), set(type(section).model_fields)
    own = fields_of(components.options(entry))
    given = {key: value for key, value in section.model_dump().items() if key not in static or key in own}
    try:
        return components.plain(components.validated(entry, given))
    except ConfigError as error:
        top = {issue.key for issue in error.issues if issue.kind == "unknown" and "." not in issue.key}
        found = [unknown_key(p.key, p.value, {*own, *static}) if p.key in top else p for p in error.issues]
        raise ConfigError.of(family, found) from error


def coreset_issues(study: Study) -> list[ConfigIssue]:
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
