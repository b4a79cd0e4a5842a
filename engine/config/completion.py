"""Completions of keys and values for the shell: read from the source and the space, without importing components.

The shell asks for them at every tab, and importing a component would import torch.
"""

import ast
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engine.config import components
from engine.config.components import FAMILIES
from engine.config.errors import ConfigError
from engine.config.load import COMPONENTS, load

Words = dict[str, list[str]]
"""The words that each dotted key may take; none where they are not a few."""


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


def words_of(module: str, name: str) -> Words:
    """Return the keys of a class's fields, or of a function's keyword-only parameters; fields of fields have dots."""
    found = _expanded(*_defined(module, name))
    return {key.removeprefix("."): words for key, words in found.items() if key}


def _expanded(module: str, node: ast.AST | None) -> Words:
    """Return the words of an annotation under the empty key, or of the class or function that it names, by key."""
    fields: list[tuple[str, ast.AST | None]] = []
    found: Words = {}
    match node:
        case ast.Name(id="bool"):
            return {"": ["true", "false"]}
        case ast.Name(id=name):
            return _expanded(*_defined(module, name))
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            constants = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            return {"": [str(one.value) for one in constants if isinstance(one, ast.Constant)]}
        case ast.BinOp(left=left, right=right):  # a union, often with None
            return _expanded(module, right) | _expanded(module, left)
        case ast.ClassDef(body=body, bases=bases):
            for base in bases:
                found |= _expanded(module, base) if isinstance(base, ast.Name) else {}
            given = (line for line in body if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name))
            fields = [(line.target.id, line.annotation) for line in given]  # type: ignore[union-attr]
        case ast.FunctionDef(args=arguments):
            fields = [(one.arg, one.annotation) for one in arguments.kwonlyargs]
    for name, annotation in fields:
        if not name.startswith("_") and "ClassVar" not in ast.dump(annotation or ast.Constant(None)):
            found |= {f".{name}{key}": words for key, words in _expanded(module, annotation).items()}
    found.pop("", None)
    return found or {"": []}


def _defined(module: str, name: str) -> tuple[str, ast.AST | None]:
    """Return the module of the engine that defines a name, and its definition there; imports are followed."""
    for line in _body(module):
        match line:
            case ast.ClassDef(name=own) | ast.FunctionDef(name=own) if own == name:
                return module, line
            case ast.Assign(targets=[ast.Name(id=own)], value=value) if own == name:
                return module, value
            case ast.ImportFrom(module=str(origin), names=imported) if origin.startswith("engine."):
                if any(name == (one.asname or one.name) for one in imported):
                    return _defined(origin, name)
    return module, None


@cache
def _body(module: str) -> list[ast.stmt]:
    top, *rest = module.split(".")
    spec = find_spec(top)
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for path in (Path(root, *rest[:-1], f"{rest[-1]}.py"), Path(root, *rest, "__init__.py")):
            if path.is_file():
                return ast.parse(path.read_text(encoding="utf-8")).body
    return []
