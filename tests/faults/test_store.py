"""The store after crashes inside of a commit, on a full disk, and with two commands that want the same experts."""

import errno
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine.experts.store import ExpertStore
from tests.faults import crashing

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """Return where a writer was killed, how it ended, and what was found afterwards."""
    command = [sys.executable, "-m", "tests.faults.crashing", str(tmp_path_factory.mktemp("crashes"))]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    return found


def test_a_writer_killed_at_any_step_leaves_the_old_or_the_new_state(outcomes: list[list[str]]) -> None:
    states = [state for _, how, state in outcomes if how == "signal 9"]
    replacing = states.index("new") + states[states.index("new") :].index("old")
    assert set(states[:replacing]) == {"old", "new"}
    assert len(states[:replacing]) > 60


def test_one_killed_as_it_replaces_a_snapshot_leaves_a_whole_store(outcomes: list[list[str]]) -> None:
    states = [state for _, how, state in outcomes if how == "signal 9"]
    assert set(states) == {"old", "shorter", "new"}


def test_every_step_of_the_commit_was_one_to_be_killed_at(outcomes: list[list[str]]) -> None:
    lines = {tuple(where.split(":")) for where, how, _ in outcomes if how == "signal 9"}
    files = {
        name: Path(__import__(f"engine.{name}", fromlist=["x"]).__file__) for name in ("io.files", "experts.store")
    }
    for module, statement in (
        ("experts.store", "temporary.write_bytes(data)"),
        ("experts.store", "_write_manifest(folder, {**_snapshots(folder), epoch: entry})"),
        ("io.files", "sync(temporary)"),
        ("io.files", "os.fsync(descriptor)"),
        ("io.files", "os.replace(temporary, path)"),
        ("io.files", "sync(path.parent)"),
    ):
        path = files[module]
        numbers = [n for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if statement in line]
        assert any((path.name, str(number)) in lines for number in numbers), statement


def test_a_torn_write_is_invisible(outcomes: list[list[str]]) -> None:
    torn = [outcome for outcome in outcomes if "bytes" in outcome[0]]
    assert [(how, state) for _, how, state in torn] == [("signal 25", "old")] * len(torn)
    assert len(torn) == 5


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 64 KiB, or skip where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here ({error})")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_and_the_store_stays_whole(small_disk: Path) -> None:
    store = ExpertStore(small_disk / "experts")
    with pytest.raises(OSError, match=r"expert_0000/\S+: there is no room left on the disk") as caught:
        fill(store)
    epoch = store.index()[0][-1] + 1
    assert caught.value.errno == errno.ENOSPC
    assert epoch > 3
    store.check(0)
    assert torch.equal(store.load(0, epoch - 1)["image.w"], crashing.params(epoch - 1)["image.w"])
    store.forget_from(0, 0)  # with room again, it goes on
    store.save(0, 0, crashing.params(1))
    store.check(0)


def fill(store: ExpertStore) -> None:
    """Save snapshots until there is no room."""
    for epoch in range(100):
        store.save(0, epoch, crashing.params(epoch))
