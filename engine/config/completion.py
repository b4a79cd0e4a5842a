"""Completions of keys and values for the shell: read from the schema and the space, without importing components."""

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from engine.config import components
from engine.config.errors import ConfigError
from engine.config.load import load
from engine.config.schema import Study

_FAMILY_OF = {
    "data.name": "data",
    "method.name": "method",
    "student.image.encoder": "image",
    "student.text.encoder": "text",
}


def keys(space: str) -> list[str]:
    """Return the dotted keys of a space, with all its defaults; none of a space that cannot be read."""
    return sorted(_tree(space))


def values(space: str, key: str) -> list[str]:
    """Return what the value of ``key`` may be: names of components, words of a choice, else the present value."""
    if key in _FAMILY_OF:
        return components.names(_FAMILY_OF[key])
    words = _words(key)
    present = _tree(space).get(key)
    return words or ([] if present is None or isinstance(present, list) else [str(present)])


def _tree(space: str) -> dict[str, Any]:
    try:
        return dict(_flat(load(space).model_dump(mode="json", exclude={"search", "published"})))
    except ConfigError:
        return {}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in tree.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else []
        found += inner or [(f"{prefix}{name}", value)]
    return found


def _words(key: str) -> list[str]:
    """Return the words of a field that is one of a few, by following the models of the schema."""
    annotation: Any = Study
    for part in key.split("."):
        fields = getattr(annotation, "model_fields", {})
        if part not in fields:
            return []
        annotation = fields[part].annotation
    if annotation is bool:
        return ["true", "false"]
    return [str(word) for word in get_args(annotation)] if get_origin(annotation) is Literal else []
