"""Components: a name in a configuration is a file of a folder, and its keyword-only parameters are the options.

The folder is the registry, on the driver as in every worker; nothing has to be registered.
"""

import dataclasses
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, NewType, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from engine.config.errors import ConfigError, booleans_as_numbers, fields_of, issues, one_of, record_in

MODALITIES = ("image", "text")


class Family(NamedTuple):
    """A folder of components, the name that each of its files defines, and the noun for messages."""

    package: str
    entry: str
    called: str


FAMILIES: Mapping[str, Family] = {
    "data": Family("engine.data.sets", "DataSet", "data set"),
    "image": Family("engine.models.image", "build", "image encoder"),
    "text": Family("engine.models.text", "build", "text encoder"),
    "coreset": Family("engine.coresets", "select", "coreset"),
    "method": Family("engine.methods", "Method", "method"),
}


def names(family: str, *, families: Mapping[str, Family] = FAMILIES) -> list[str]:
    """Return the names of a family's components in alphabetical order without importing any.

    Modules whose name begins with an underscore are not components.
    """
    top, *rest = families[family].package.split(".")
    spec = find_spec(top)
    folders = [str(Path(root, *rest)) for root in (spec.submodule_search_locations or () if spec else ())]
    return sorted(module.name for module in pkgutil.iter_modules(folders) if not module.name.startswith("_"))


def find(family: str, name: str, *, families: Mapping[str, Family] = FAMILIES) -> Callable[..., Any]:
    """Import the component ``name`` and return its entry.

    Raises:
        ValueError: the family has no component of this name.
    """
    package, entry, called = families[family]
    known = names(family, families=families)
    if name not in known:
        raise ValueError(f"the {called} is {name!r}, expected {one_of(str(name), known)}.")
    module = import_module(f"{package}.{name}")
    assert hasattr(module, entry), f"{module.__name__} has no {entry}"
    found: Callable[..., Any] = getattr(module, entry)
    return found


@cache
def options(entry: Callable[..., Any]) -> type:
    """Return the dataclass of an entry's options: the entry itself, or one of a function's keyword-only parameters."""
    if dataclasses.is_dataclass(entry):
        return entry
    hints = get_type_hints(inspect.unwrap(entry), include_extras=True)
    given = [p for p in inspect.signature(entry).parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    defaults = {p.name: dataclasses.MISSING if p.default is p.empty else p.default for p in given}
    fields = [(name, hints[name], dataclasses.field(default=default)) for name, default in defaults.items()]
    return dataclasses.make_dataclass(f"{entry.__name__}_options", fields, frozen=True, kw_only=True)


def validated(entry: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """Return the options of ``entry`` with their defaults, converted to the types of the options.

    Fields left out of a nested option take the values that they have in the option's default, and a plain value stands
    for both modalities.

    Raises:
        ConfigError: an option does not exist, or a value does not fit; ``issues`` has all such errors.
    """
    kind = options(entry)
    try:
        checked = _adapter(kind).validate_python(_completed(kind, values, None))
    except ValidationError as error:
        raise ConfigError.of("options", issues(error, kind, dict(values))) from error
    if found := list(booleans_as_numbers(values, checked)):
        raise ConfigError.of("options", found)
    return checked


def plain(checked: Any) -> dict[str, Any]:
    """Return validated options as values of JSON."""
    left_out = {field.name for field in dataclasses.fields(checked) if not field.init}
    kind: Any = type(checked)
    values: dict[str, Any] = _adapter(kind).dump_python(checked, mode="json", exclude=left_out)
    return values


def bind(
    family: str, name: str, values: Mapping[str, Any], *, families: Mapping[str, Family] = FAMILIES
) -> Callable[..., Any] | Any:
    """Return the component with its options: an instance of the dataclass, or a partial of the function.

    Raises:
        ValueError: there is no such component or option, or a value does not fit.
    """
    entry = find(family, name, families=families)
    try:
        checked = validated(entry, values)
    except ConfigError as error:
        raise ConfigError.of(f"{families[family].called} {name}", error.issues) from error
    return checked if isinstance(entry, type) else partial(entry, **vars(checked))


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Return a validator that refuses unknown keys, in nested dataclasses too.

    Pydantic takes no configuration for a dataclass, but does for a ``NewType`` of one.
    """
    alias = NewType("alias", kind)  # type: ignore[valid-newtype]
    return TypeAdapter(alias, config=ConfigDict(extra="forbid", allow_inf_nan=False))


def _completed(annotation: Any, given: Any, default: Any) -> Any:
    """Return ``given`` for validation: with the rest of ``default``, and one value split into both modalities."""
    if isinstance(given, list | tuple) and get_origin(annotation) in (list, tuple):
        return [_completed(get_args(annotation)[0], value, None) for value in given]
    kind = record_in(annotation)
    fields = fields_of(kind)
    if kind is None or not isinstance(given, Mapping):
        return dict.fromkeys(MODALITIES, given) if {*fields} == {*MODALITIES} and given is not None else given
    rest = {name: getattr(default, name) for name in fields} if isinstance(default, kind) else {}
    defaults = rest or {
        field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for field in dataclasses.fields(kind)
    }
    return rest | {key: _completed(fields.get(key), value, defaults.get(key)) for key, value in given.items()}
