"""Components: the word in a space is the name of a file in a folder, its keyword-only parameters are the options.

No registry is filled by decorators: the folder is the registry, on the driver as in every worker.
"""

import dataclasses
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache, partial, reduce
from importlib import import_module
from importlib.util import find_spec
from operator import or_
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from pydantic import Field, ValidationError, create_model

from engine.config.errors import issues, one_of
from engine.config.strict import Strict


class Family(NamedTuple):
    """Where the components of a family lie, what their entry is called, and what one of them is called."""

    package: str
    entry: str
    called: str


FAMILIES: Mapping[str, Family] = {
    "data": Family("engine.data.sets", "load", "data set"),
    "image": Family("engine.models.image", "build", "image encoder"),
    "text": Family("engine.models.text", "build", "text encoder"),
    "coreset": Family("engine.coresets", "select", "coreset"),
    "method": Family("engine.methods", "Method", "method"),
}


class Options(Strict):
    """The options of one component; ``entry`` is the function or the dataclass that takes them."""

    entry: ClassVar[Callable[..., Any]]


def names(family: str, *, families: Mapping[str, Family] = FAMILIES) -> list[str]:
    """Return the components of a family in alphabetical order, importing none of them.

    Modules whose name begins with an underscore are not components.
    """
    top, *rest = families[family].package.split(".")
    spec = find_spec(top)
    roots = list(spec.submodule_search_locations or ()) if spec else []
    folders = [str(Path(root, *rest)) for root in roots]
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
def options(entry: Callable[..., Any]) -> type[Options]:
    """Return the strict model of the options of ``entry``, with their defaults.

    These are the keyword-only parameters of a function, or the fields of a dataclass. Where an option is itself a
    dataclass it becomes a strict model too; fields left out take the value they have in the option's default.
    """
    return _model(entry, None)


def bind(
    family: str, name: str, values: Mapping[str, Any], *, families: Mapping[str, Family] = FAMILIES
) -> Callable[..., Any] | Any:
    """Return the component with its options: a function waiting for its positional arguments, or the dataclass.

    Values are coerced to the types of the options; options that are dataclasses arrive as instances.

    Raises:
        ValueError: there is no such component or option, or a value does not fit.
    """
    entry = find(family, name, families=families)
    model = options(entry)
    try:
        checked = model.model_validate(dict(values))
    except ValidationError as error:
        found = issues(error, model, dict(values))
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        called = families[family].called
        raise ValueError(f"{called} {name}: {found[0].sentence()}{more}.") from error
    if inspect.isclass(entry):
        return _built(checked)
    return partial(entry, **{key: _built(getattr(checked, key)) for key in model.model_fields})


def _model(entry: Callable[..., Any], like: Any) -> type[Options]:
    """Build the options model of ``entry``; defaults are read from the instance ``like`` where there is one."""
    hints = get_type_hints(entry if inspect.isclass(entry) else inspect.unwrap(entry), include_extras=True)
    fields: dict[str, Any] = {}
    for name, default in _parameters(entry).items():
        assert name in hints, f"{entry.__module__}.{entry.__qualname__}: option {name} has no annotation"
        default = getattr(like, name) if like is not None else default
        annotation = _translated(hints[name], default)
        fields[name] = (annotation, _default(annotation, default))
    model = create_model(f"{entry.__name__}_options", __base__=Options, __module__=__name__, **fields)
    model.entry = entry
    return model


def _parameters(entry: Callable[..., Any]) -> dict[str, Any]:
    """Return the options of ``entry`` with their defaults; ``Parameter.empty`` marks an option without one."""
    if not dataclasses.is_dataclass(entry):
        parameters = inspect.signature(entry).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    found: dict[str, Any] = {}
    for field in dataclasses.fields(entry):
        if field.init:
            factory, default = field.default_factory, field.default
            found[field.name] = factory() if factory is not dataclasses.MISSING else default
            if found[field.name] is dataclasses.MISSING:
                found[field.name] = inspect.Parameter.empty
    return found


def _translated(annotation: Any, default: Any) -> Any:
    """Replace the dataclasses in an annotation by their options models."""
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return _model(annotation, default if isinstance(default, annotation) else None)
    arguments = get_args(annotation)
    if not arguments or get_origin(annotation) is Literal:
        return annotation
    if get_origin(annotation) is Annotated:
        return Annotated[(_translated(arguments[0], default), *arguments[1:])]
    translated = tuple(_translated(argument, default) for argument in arguments)
    if get_origin(annotation) in (Union, UnionType):
        return reduce(or_, translated)
    return annotation if translated == arguments else get_origin(annotation)[translated]


def _default(annotation: Any, default: Any) -> Any:
    """Return the default of a model's field for the default of an option."""
    if default is inspect.Parameter.empty:
        return ...
    if dataclasses.is_dataclass(default):
        model = next(m for m in (annotation, *get_args(annotation)) if getattr(m, "entry", None) is type(default))
        return Field(default_factory=model)
    return Field(default_factory=lambda: default)


def _built(value: Any) -> Any:
    """Turn checked options back into instances of the dataclasses they came from."""
    if isinstance(value, Options):
        return type(value).entry(**{name: _built(getattr(value, name)) for name in type(value).model_fields})
    if isinstance(value, list | tuple):
        return type(value)(_built(item) for item in value)
    if isinstance(value, dict):
        return {key: _built(item) for key, item in value.items()}
    return value
