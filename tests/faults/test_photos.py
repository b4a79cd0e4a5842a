"""Thousands of photos: a command that is killed while they are decoded, broken ones, and several nodes."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from engine.cluster import runtime
from engine.cluster.prepare import prepare
from engine.data.records import SPLITS
from tests.data.photos import noise
from tests.data.sets.test_karpathy import entry, write
from tests.faults.conftest import Nodes
from tests.studies.test_resume import stop
from tests.tiny import tiny_job, words

pytestmark = pytest.mark.faults
TASK = Path(__file__).resolve().parents[2] / "tasks" / "train_experts.py"
DATA = "data={name: karpathy, root: made, image_px: 16}"
NUMBERS = {"train": 4500, "val": 20, "test": 20}


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Path]:
    """Return a storage beside 4,540 photos, one in each split with many names, and a cache of its own."""
    known, entries = list(combinations(("red", "blue", "green", "small", "large", "dark", "round"), 2)), []
    for seed, split in enumerate(SPLITS):
        photo = tmp_path / "data" / "made" / "images" / f"{split}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        noise(seed, 400, 300).save(photo)
        for number in range(NUMBERS[split]):
            photo.with_name(f"{split}_{number}.jpg").hardlink_to(photo)
            entries.append(entry(f"{split}_{number}.jpg", split, sentences=[{"raw": " ".join(known[number % 21])}]))
    write(tmp_path / "data" / "made" / "dataset_made.json", {"images": entries})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLDD_DATA", str(tmp_path / "data"))
        patch.setenv("VLDD_CACHE", str(tmp_path / "cache"))
        yield tmp_path / "runs"


def start(storage: Path) -> subprocess.Popen[str]:
    """Start the training of the tiny study's experts on these photos, with a private Ray."""
    return subprocess.Popen(
        [sys.executable, str(TASK), *words(storage, DATA), "--local"],
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def test_a_command_that_was_killed_goes_on_and_all_nodes_get_the_shards(storage: Path, nodes: Nodes) -> None:
    specification = tiny_job(storage, DATA).specification
    first = start(storage)
    stop(first, signal.SIGKILL, lambda: len(list(storage.glob("prepared/*/*.npy"))) > 2)
    setup = specification.setup(device="cpu")
    train = setup.pixels[0]
    early = {file: file.stat().st_ino for file in storage.glob("prepared/*/*.npy")}
    assert 2 < len(early) < len(train.firsts), "it was killed on the way"
    prepared = prepare(specification, runtime.start())
    assert {file: file.stat().st_ino for file in early} == early, "finished shards are not made again"
    assert [array.missing() for array in setup.pixels] == [[], [], []]
    shutil.rmtree(specification.paths.data / "made", ignore_errors=False)
    paths = replace(specification.paths, cache=specification.paths.cache.with_name("elsewhere"))
    there = replace(prepared, paths=paths).setup(device="cpu")
    for split, data in there.datasets.items():
        assert len(data.images) == NUMBERS[split]
        for row in (0, -1):
            np.testing.assert_array_equal(data.images[row], setup.datasets[split].images[row])


def test_broken_photos_end_a_command_in_one_sentence(storage: Path) -> None:
    photos = storage.parent / "data" / "made" / "images"
    for name in ("train_7.jpg", "train_4321.jpg", "test_3.jpg"):
        (photos / name).unlink()
        (photos / name).write_bytes(f"broken {name}".encode())
    command = start(storage)
    out, err = command.communicate(timeout=240)
    assert command.returncode == 2, err
    reason = "(it is none of JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF, or damaged)"
    files = [f"{photos / name} {reason}" for name in ("train_7.jpg", "train_4321.jpg", "test_3.jpg")]
    assert err == f"error: 3 of 4,540 images cannot be decoded: {', '.join(files)}.\n"
    assert [line.partition(":")[0] for line in out.splitlines()] == ["Ray"]
