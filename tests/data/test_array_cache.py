import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.data.cache import cached_array

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
