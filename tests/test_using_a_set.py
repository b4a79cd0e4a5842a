"""The code of the README and of docs/using_a_set.md on a set runs, with small models and few epochs."""

import re
from pathlib import Path

import pytest
import torch

from engine.evaluation import own_model
from engine.recipes import StudentRecipe
from engine.synthetic.set import load_set
from tests.models.clips import NAME, register_tiny_clip

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "shapes_100"


def blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_the_document_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(ROOT)
    register_tiny_clip(tmp_path)
    names, *rest = blocks(ROOT / "docs" / "using_a_set.md")
    place = {"folder": str(EXAMPLE), "epochs": 1, "timm_name": "test_resnet", "clip_name": NAME, "clip_weights": None}
    named: dict[str, object] = {}
    exec(names, named)
    assert named.keys() - {"__builtins__"} == place.keys()
    for block in rest:
        exec(block, place)
    assert place["embedded"].shape == (10, 128)  # type: ignore[attr-defined]
    assert place["table"].height == len(place["pairs"]) == 100  # type: ignore[attr-defined, arg-type]
    assert place["loss"].isfinite()  # type: ignore[attr-defined]


def test_the_lines_of_the_readme_run(monkeypatch: pytest.MonkeyPatch) -> None:
    (lines,) = (block for block in blocks(ROOT / "README.md") if "train_on_set" in block)
    monkeypatch.setattr(own_model, "StudentRecipe", lambda: StudentRecipe(epochs=1))
    monkeypatch.chdir(ROOT)
    place: dict[str, object] = {}
    exec(lines.replace("resnet18", "test_resnet"), place)
    assert place["text"].weight.isfinite().all()  # type: ignore[attr-defined]


def test_the_example_is_a_small_set_without_photos() -> None:
    assert sum(path.stat().st_size for path in EXAMPLE.rglob("*")) < 2e6
    pairs = load_set(EXAMPLE)
    assert (len(pairs), pairs.metadata["data"]["name"]) == (100, "shapes")
    assert pairs.captions is not None
    assert torch.equal(pairs.images, pairs.images.clamp(0, 1))
    body = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    assert "license: apache-2.0" in body
    assert "points from that of the floats" in body, "it is scored"
