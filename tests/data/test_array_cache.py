"""Arrays are made once, whole or not at all, and their shards too."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.data.cache import SHARD, ShardedArray, cached_array
from engine.io.storage import Location, location

RACER = """
import sys, time
from pathlib import Path
from engine.data.cache import cached_array

def fill(array):
    for row in range(len(array)):
        array[row] = row
        time.sleep(0.05)
    print("filled")

array = cached_array(Path(sys.argv[1]), "race", shape=(40, 5), dtype="int32", fill=fill)
assert array[:, 0].tolist() == list(range(40))
"""


def counting(array: np.ndarray) -> None:
    array[:] = np.arange(array.size).reshape(array.shape)


def refuse(array: np.ndarray) -> None:
    raise AssertionError("made twice")


def make(folder: Path, fill: object = counting, shape: tuple[int, ...] = (3, 4)) -> np.ndarray:
    return cached_array(folder, "key", shape=shape, dtype=np.float32, fill=fill)


def test_made_once_and_read_only(tmp_path: Path) -> None:
    first = make(tmp_path)
    again = make(tmp_path, refuse)
    assert isinstance(again, np.memmap)
    assert not again.flags.writeable
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(again, np.arange(12).reshape(3, 4))


@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY\x01\x00"])
def test_broken_file_is_made_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key.npy").write_bytes(content)
    assert make(tmp_path)[2, 3] == 11


def test_truncated_file_is_made_again(tmp_path: Path) -> None:
    make(tmp_path)
    path = tmp_path / "key.npy"
    path.write_bytes(path.read_bytes()[:-8])
    assert make(tmp_path)[2, 3] == 11


def test_other_shape_is_made_again(tmp_path: Path) -> None:
    make(tmp_path)
    assert make(tmp_path, shape=(2, 2)).shape == (2, 2)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "key.npy", np.array([[{}] * 4] * 3, dtype=object), allow_pickle=True)
    assert make(tmp_path).dtype == np.float32


def test_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    (tmp_path / ".key.npy.0a1b2c3d").write_bytes(bytes(100))
    (tmp_path / ".other.npy.0a1b2c3d").write_bytes(bytes(100))
    make(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".key.lock", ".other.npy.0a1b2c3d", "key.npy"]


def test_failed_fill_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="made twice"):
        make(tmp_path, refuse)
    assert [path.name for path in tmp_path.iterdir()] == [".key.lock"]


def test_one_of_the_processes_that_miss_at_once_makes_the_file(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    filled = [racer.communicate(timeout=120)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    assert "".join(filled).count("filled") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".race.lock", "race.npy"]


ROWS = 2 * SHARD + 5


def sharded(cache: Path, shards: Location | None, *made: int, check: object = None) -> tuple[ShardedArray, list[int]]:
    """Return an array whose rows hold their own numbers, and the first rows of the shards that are made."""
    seen = list(made)

    def make(first: int, last: int) -> np.ndarray:
        seen.append(first)
        return np.arange(first, last, dtype=np.float32)[:, None]

    array = ShardedArray(
        folder=cache, key="k", shape=(ROWS, 1), dtype="float32", label="rows", make=make, check=check, shards=shards
    )
    return array, seen


@pytest.fixture(params=["disk", "object store"])
def shards(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """Return a folder that all nodes see."""
    return tmp_path / "shards" if request.param == "disk" else location(f"memory://{tmp_path.name}/shards")


def test_finished_shards_are_not_made_again(tmp_path: Path, shards: Location) -> None:
    before, _ = sharded(tmp_path / "a", shards)
    assert before.missing() == [0, SHARD, 2 * SHARD]
    assert before.write(SHARD) == SHARD
    assert before.write(2 * SHARD) == 5
    array, made = sharded(tmp_path / "a", shards)
    assert (array.missing(), array.here) == ([0], False)
    np.testing.assert_array_equal(array.open()[:, 0], np.arange(ROWS))
    assert made == [0]
    assert array.here
    array.forget_shards()
    assert not (shards / "k").exists()
    array.open()
    assert made == [0], "the whole array needs no shards"


def test_another_machine_takes_the_shards(tmp_path: Path, shards: Location) -> None:
    array, made = sharded(tmp_path / "here", shards)
    array.open()
    array.publish()
    array.publish()
    assert made == [0, SHARD, 2 * SHARD], "what is here is not made again"
    there, made = sharded(tmp_path / "there", shards)
    np.testing.assert_array_equal(there.open()[:, 0], np.arange(ROWS))
    assert made == []


@pytest.mark.parametrize("content", [b"", b"not an array", b"other rows"])
def test_a_damaged_shard_is_made_again(tmp_path: Path, content: bytes) -> None:
    before, _ = sharded(tmp_path / "a", tmp_path / "shards")
    before.write(0)
    file = tmp_path / "shards" / "k" / "0000000000.npy"
    if content == b"other rows":
        np.save(file, np.zeros((3, 1), dtype=np.float32))
    else:
        file.write_bytes(content)
    array, made = sharded(tmp_path / "a", tmp_path / "shards")
    assert array.open()[1, 0] == 1
    assert made == [0, SHARD, 2 * SHARD]


def test_a_refused_array_is_not_kept(tmp_path: Path) -> None:
    def refuse(rows: np.ndarray) -> None:
        raise ValueError(f"{len(rows)} rows")

    array, made = sharded(tmp_path / "a", tmp_path / "shards", check=refuse)
    with pytest.raises(ValueError, match=f"^{ROWS} rows$"):
        array.open()
    assert made == [0, SHARD, 2 * SHARD]
    assert not array.here
