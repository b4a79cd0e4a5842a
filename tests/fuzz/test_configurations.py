"""Spoiled configurations: a study, or one sentence."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from engine.config.load import as_yaml, load, resolve
from engine.config.spaces import spaces
from tests.fuzz.mutations import THOROUGH, TREES, paths, refused_in_a_sentence, spoiled, torn
from tests.tiny import SPACE

TEXT = SPACE.read_bytes()
TREE: dict[str, Any] = yaml.safe_load(TEXT)
COMPLETE: dict[str, Any] = yaml.safe_load(as_yaml(resolve(load(SPACE))))
KEYS = [".".join(map(str, path)) for path in paths(COMPLETE)[1:]]
outcomes: Counter[tuple[str, bool]] = Counter()


def read(path: Path, *overrides: str) -> bool:
    """Say whether a configuration is refused; one that is not has to be whole."""
    return refused_in_a_sentence(lambda: resolve(load(path, overrides)))


@THOROUGH
@given(tree=spoiled(TREE) | spoiled(COMPLETE))
def test_a_spoiled_tree(tree: Any, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8", errors="surrogatepass")
    outcomes["tree", read(path)] += 1


@THOROUGH
@given(data=torn(TEXT))
def test_a_torn_text(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_bytes(data)
    outcomes["text", read(path)] += 1


@THOROUGH
@given(key=st.sampled_from(KEYS), value=TREES | st.text(max_size=20))
def test_a_wild_override(key: str, value: Any) -> None:
    outcomes["override", read(SPACE, f"{key}={value}")] += 1


@THOROUGH
@given(word=st.text(max_size=30) | st.sampled_from(sorted(spaces())).map(lambda name: f"{name}/.."))
def test_a_wild_word(word: str) -> None:
    refused_in_a_sentence(lambda: resolve(load(word)))
    refused_in_a_sentence(lambda: resolve(load(SPACE, [word])))


def test_some_were_taken_and_some_were_refused() -> None:
    if not outcomes:
        pytest.skip("nothing was tried")
    assert all(outcomes[kind, refused] > 2 for kind in ("tree", "text", "override") for refused in (True, False)), (
        outcomes
    )
