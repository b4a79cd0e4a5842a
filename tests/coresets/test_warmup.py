"""The coresets' evidence as a file."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.coresets import WarmupStatistics, load_warmup, save_warmup
from engine.rng import named_generator


def warmup() -> WarmupStatistics:
    generator = named_generator(0, "evidence")
    features = torch.randn(2, 6, 4, generator=generator)
    counts = torch.tensor([0, 3, 1, 0, 2, 0])
    return WarmupStatistics(features[0], features[1].T.contiguous().T, counts, torch.tensor([True, *[False] * 5]))


def test_a_file_gives_the_evidence_back_bitwise(tmp_path: Path) -> None:
    path = tmp_path / "new" / "evidence.safetensors"
    save_warmup(path, warmup())
    again = load_warmup(path)
    for entry in fields(WarmupStatistics):
        ours, given = getattr(again, entry.name), getattr(warmup(), entry.name)
        assert ours.dtype == given.dtype
        assert torch.equal(ours, given)
    assert list(path.parent.iterdir()) == [path]


def test_an_absent_file_says_who_leaves_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"e\.safetensors: there is no evidence .* the full-data student"):
        load_warmup(tmp_path / "e.safetensors")


@pytest.mark.parametrize("kept", [0, 30, -1])
def test_a_truncated_file_is_named(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "e.safetensors"
    save_warmup(path, warmup())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"e\.safetensors: expected the evidence of a warm-up, but "):
        load_warmup(path)


@pytest.mark.parametrize("names", [["image_features"], ["images", "texts"]])
def test_a_file_of_another_kind_is_named(tmp_path: Path, names: list[str]) -> None:
    path = tmp_path / "e.safetensors"
    save_file({name: torch.zeros(2, 2) for name in names}, path)
    with pytest.raises(ValueError, match=r"e\.safetensors: expected the evidence of a warm-up, but "):
        load_warmup(path)
