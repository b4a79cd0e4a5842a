"""Ways to spoil what the project reads: trees of JSON or YAML, and bytes."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

THOROUGH = settings(
    max_examples=300,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
"""The same examples in every run."""

LONGEST_SENTENCE = 3000

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-3, 9),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["", "..", "/", "a/../../b", "nan", "1e400", "0x10", "\x00", "é", "random", "train", "0", "-1"]),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def paths(tree: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the ways to every value of a tree, the root first."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [above, *(path for key, value in inner for path in paths(value, (*above, key)))]


@st.composite
def spoiled(draw: st.DrawFn, tree: Any, *, most: int = 3) -> Any:
    """Return a copy of a tree in which a few values are replaced, deleted, renamed, wrapped, doubled or moved."""
    tree = {"root": deepcopy(tree)}
    for _ in range(draw(st.sampled_from([1, 1, *range(1, most + 1)]))):
        path = draw(st.sampled_from(paths(tree)[1:] or [("root",)]))
        holder: Any = tree
        for key in path[:-1]:
            holder = holder[key]
        key = path[-1]
        match draw(st.sampled_from(["replace", "delete", "rename", "wrap", "copy", "double"])):
            case "replace":
                holder[key] = draw(TREES)
            case "delete" if path != ("root",):
                del holder[key]
            case "rename" if isinstance(holder, dict) and path != ("root",):
                holder[draw(st.text(max_size=8))] = holder.pop(key)
            case "wrap":
                holder[key] = draw(st.sampled_from([[holder[key]], {"name": holder[key]}, {str(key): holder[key]}]))
            case "copy":
                other: Any = tree
                for step in draw(st.sampled_from(paths(tree)[1:])):
                    other = other[step]
                holder[key] = deepcopy(other)
            case "double" if isinstance(holder[key], list):
                holder[key] = holder[key] * 2
        if "root" not in tree:
            tree["root"] = None
    return tree["root"]


@st.composite
def torn(draw: st.DrawFn, data: bytes) -> bytes:
    """Return bytes of which a few are changed, cut off, put in or put out."""
    changed = bytearray(data)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        at = draw(st.integers(0, max(len(changed) - 1, 0)))
        match draw(st.sampled_from(["flip", "flip", "letter", "letter", "cut", "put", "drop", "zero"])):
            case "flip" if changed:
                changed[at] ^= 1 << draw(st.integers(0, 7))
            case "letter" if changed:
                changed[at] = draw(st.sampled_from(b'0123456789-.{}[],:" aeFINn'))
            case "cut":
                del changed[at:]
            case "put":
                changed[at:at] = draw(st.binary(min_size=1, max_size=9))
            case "drop":
                del changed[at : at + draw(st.integers(1, 40))]
            case "zero":
                changed[at : at + 8] = bytes(len(changed[at : at + 8]))
    return bytes(changed)


def refused_in_a_sentence(read: Callable[[], object]) -> bool:
    """Call ``read`` and return whether it refused; assert that it did so in one sentence, and not from inside."""
    caught: Exception | None = None
    try:
        read()
    except (ValueError, FileNotFoundError) as error:
        caught = error
    if caught is None:
        return False
    ours = type(caught).__module__.startswith("engine.")
    assert ours or type(caught) in (ValueError, FileNotFoundError), repr(caught)
    sentence = str(caught)
    assert 10 < len(sentence) < LONGEST_SENTENCE, sentence
    assert sentence.endswith((".", "?")), sentence
    assert "\n" not in sentence, sentence
    return True


def with_header(data: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Return a safetensors file whose header's JSON is changed, its length with it."""
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(change(json.loads(data[8 : 8 + size]))).encode()
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder, but locks, which are empty."""
    return {
        str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size
    }
