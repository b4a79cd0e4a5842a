"""Keys and words of options, read from the source of the classes and functions that declare them.

The shell asks for completions at every tab, and importing a component would import torch.
"""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

Words = dict[str, list[str]]
"""The words that each dotted key may take; none where they are not a few."""


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
