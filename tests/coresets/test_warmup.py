"""Warm-up statistics as a file."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.coresets import FORMAT_VERSION, WarmupStatistics, load_warmup, save_warmup
from engine.rng import named_generator


def warmup() -> WarmupStatistics:
    generator = named_generator(0, "warmup")
    images, texts = (torch.randn(size, 4, generator=generator).half() for size in (3, 6))
    counts = torch.tensor([0, 3, 1, 0, 2, 0])
    flags = torch.tensor([[True, *[False] * 5], [False] * 5 + [True]])
    return WarmupStatistics(images, texts.T.contiguous().T, torch.arange(6) // 2, counts, *flags)


def test_a_file_gives_the_statistics_back_bitwise(tmp_path: Path) -> None:
    path = tmp_path / "new" / "warmup.safetensors"
    save_warmup(path, warmup())
    again = load_warmup(path)
    for entry in fields(WarmupStatistics):
        ours, given = getattr(again, entry.name), getattr(warmup(), entry.name)
        assert ours.dtype == given.dtype
        assert torch.equal(ours, given)
    assert list(path.parent.iterdir()) == [path]


def test_an_absent_file_says_who_writes_it(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"e\.safetensors: expected warm-up statistics, which the first student of all pairs writes",
    ):
        load_warmup(tmp_path / "e.safetensors")


@pytest.mark.parametrize("kept", [0, 30, -1])
def test_a_truncated_file_is_named(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "e.safetensors"
    save_warmup(path, warmup())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"e\.safetensors: expected warm-up statistics, but "):
        load_warmup(path)


@pytest.mark.parametrize("names", [["image_features"], ["images", "texts"]])
def test_a_file_of_another_kind_is_named(tmp_path: Path, names: list[str]) -> None:
    path = tmp_path / "e.safetensors"
    tensors = {name: torch.zeros(2, 2) for name in names}
    save_file(tensors, path, metadata={"format_version": str(FORMAT_VERSION)})
    with pytest.raises(ValueError, match=r"e\.safetensors: expected warm-up statistics, but "):
        load_warmup(path)


def test_a_file_of_an_older_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    save_file({"image_features": torch.zeros(2, 2)}, path, metadata={"format_version": "1"})
    with pytest.raises(ValueError, match=r"e\.safetensors: expected format_version 2, but the file has '1'\."):
        load_warmup(path)
