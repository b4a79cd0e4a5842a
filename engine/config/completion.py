"""Completions of keys and values for the shell: read from the source and the space, without importing components."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.config import components
from engine.config.annotations import Words, words_of
from engine.config.components import FAMILIES
from engine.config.errors import ConfigError
from engine.config.load import load
from engine.config.sections import COMPONENTS


def completed(space: str, overrides: Sequence[str], key: str) -> list[str]:
    """Return the dotted keys of a study, or behind ``=`` the words that the value of ``key`` may be.

    The value of a key that takes no few words is its present one. Words that were typed before select the components;
    where the space cannot be read, only what all studies have is known.
    """
    present: dict[str, Any] = {}
    for given in (overrides, ()):
        try:
            present = present or load(space, given).model_dump(mode="json", exclude={"search", "published"})
        except ConfigError:
            continue
    words = _words(present)
    name, equals, _ = key.partition("=")
    if not equals:
        return sorted(f"{one}=" for one in {**words, **_flat(present)})
    value = _flat(present).get(name)
    found = words.get(name) or ([] if value is None or isinstance(value, list) else [str(value)])
    return [f"{name}={word}" for word in found]


def _words(present: Mapping[str, Any]) -> Words:
    """Return the words of every key that the schema has, and of the options of the components of a study."""
    words = words_of("engine.config.schema", "Study")
    for section, (family, word) in COMPONENTS.items():
        names = words[f"{section}.{word}"] = components.names(family)
        chosen: Any = present
        for part in (*section.split("."), word):
            chosen = chosen.get(part) if isinstance(chosen, Mapping) else None
        if chosen in names:
            found = words_of(f"{FAMILIES[family].package}.{chosen}", FAMILIES[family].entry)
            words = {f"{section}.{key}": options for key, options in found.items()} | words
    words |= {key.removesuffix(".image"): found for key, found in words.items() if key.endswith(".image")}  # for both
    left_out = {key for key in words if any(other.startswith(f"{key}.") for other in words)}
    return {key: found for key, found in words.items() if found or key not in left_out | {"search", "published"}}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {}
        found |= inner or {f"{prefix}{name}": value}
    return found
