"""What made a result is named."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from engine import provenance
from engine.prepare import MAKERS
from tests.test_structure import calls, dotted, sources

ROOT = Path(__file__).resolve().parents[1]


def test_everything_that_decides_numbers_is_named() -> None:
    found = provenance.provenance()
    assert re.fullmatch(r"[0-9a-f]{16}", found["code"])
    assert found["versions"]["torch"][0].isdigit()
    assert found["versions"]["ray"][0].isdigit()
    assert f"{provenance.processor()} (" in found["device"] or "NVIDIA" in found["device"]


def test_a_change_of_the_engine_changes_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "ENGINE", tmp_path)
    digests = []
    for text in ("a = 1\n", "a = 2\n"):
        (tmp_path / "x.py").write_text(text, encoding="utf-8")
        provenance.source_digest.cache_clear()
        digests.append(provenance.code_digest())
    (tmp_path / "x.py").rename(tmp_path / "y.py")
    provenance.source_digest.cache_clear()
    assert len({*digests, provenance.code_digest()}) == 3
    provenance.source_digest.cache_clear()


def test_only_what_decides_numbers_changes_their_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("losses/contrastive.py", "cluster/errors.py", "build.py", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a = 1\n", encoding="utf-8")
    monkeypatch.setattr(provenance, "ENGINE", tmp_path)
    changed = {}
    for name in ("losses/contrastive.py", "cluster/errors.py", "build.py", "README.md"):
        provenance.source_digest.cache_clear()
        before = provenance.numbers_digest()
        (tmp_path / name).write_text("a = 2\n", encoding="utf-8")
        provenance.source_digest.cache_clear()
        changed[name] = provenance.numbers_digest() != before
    provenance.source_digest.cache_clear()
    assert changed == {
        "losses/contrastive.py": True,
        "cluster/errors.py": False,
        "build.py": True,
        "README.md": False,
    }


def test_every_name_of_what_decides_numbers_or_makes_an_array_exists() -> None:
    makers = {name for path in sources("engine") for name in named(path)} | {*MAKERS}
    assert {"data/images.py", "shapes/drawing.py"} < makers
    assert [name for name in (*provenance.NUMBERS, *makers) if not (provenance.ENGINE / name).exists()] == []


def named(path: Path) -> list[str]:
    """Return the names of source that a file gives to ``source_digest`` as they stand."""
    found = (call.args for call in calls(path) if dotted(call.func) == "source_digest")
    return [one.value for given in found for one in given if isinstance(one, ast.Constant) and one.value]


def checkout_with(file: str, root: Path) -> None:
    """Create a git checkout in ``root`` with one committed file."""
    (root / file).parent.mkdir(parents=True)
    (root / file).write_text("a = 1\n", encoding="utf-8")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)


def test_a_package_inside_another_project_does_not_take_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout_with("site-packages/engine/x.py", tmp_path)
    monkeypatch.setattr(provenance, "ENGINE", tmp_path / "site-packages" / "engine")
    provenance.commit.cache_clear()
    assert provenance.commit().startswith("version ")
    provenance.commit.cache_clear()


def test_changed_files_are_marked_beside_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout_with("engine/x.py", tmp_path)
    monkeypatch.setattr(provenance, "ENGINE", tmp_path / "engine")
    provenance.commit.cache_clear()
    assert re.fullmatch(r"[0-9a-f]{7}", provenance.commit())
    (tmp_path / "engine" / "x.py").write_text("a = 2\n", encoding="utf-8")
    provenance.commit.cache_clear()
    assert re.fullmatch(r"[0-9a-f]{7}\+changes", provenance.commit())
    provenance.commit.cache_clear()
