"""Digests that are remembered: which files are read again, and that a wrong memory changes nothing."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from engine.data import digests as digests_module
from engine.data.digests import file_digests
from engine.io.files import digest


class Reader:
    """Reads files and notes which."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, files: Sequence[Path]) -> Iterator[str]:
        for file in files:
            self.names.append(file.name)
            yield digest(file.read_bytes())


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust files from the moment of their last change."""
    monkeypatch.setattr(digests_module, "UNSETTLED", -1.0)


def written(folder: Path, **texts: str) -> list[Path]:
    files = [folder / name for name in texts]
    for file, text in zip(files, texts.values(), strict=True):
        file.write_text(text)
    return files


def seen(files: Sequence[Path], cache: Path) -> tuple[list[str], list[str]]:
    """Return the digests, and the names of the files that were read for them."""
    reader = Reader()
    with file_digests(files, cache=cache, read=reader) as digests:
        return digests, reader.names


def test_files_are_read_once(tmp_path: Path) -> None:
    files = written(tmp_path, a="one", b="two")
    first, read = seen(files, tmp_path / "cache")
    assert read == ["a", "b"]
    assert first == [digest(b"one"), digest(b"two")]
    assert seen(files, tmp_path / "cache") == (first, [])


def test_what_changed_alone_is_read_again(tmp_path: Path) -> None:
    files = written(tmp_path, a="one", b="two")
    seen(files, tmp_path / "cache")
    written(tmp_path, b="owt")  # of the same size
    assert seen(files, tmp_path / "cache") == ([digest(b"one"), digest(b"owt")], ["b"])
    assert seen(files, tmp_path / "cache")[1] == []


def test_a_file_that_was_changed_just_now_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests_module, "UNSETTLED", 3600.0)
    files = written(tmp_path, a="one")
    seen(files, tmp_path / "cache")
    assert seen(files, tmp_path / "cache")[1] == ["a"]


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"%s": [3, 4]}', '{"%s": ["x", "y", "z"]}', '{"%s": 5}'])
def test_a_damaged_memory_is_made_again(tmp_path: Path, damage: str) -> None:
    files = written(tmp_path, a="one")
    first, _ = seen(files, tmp_path / "cache")
    (memory,) = (tmp_path / "cache").iterdir()
    memory.write_text(damage.replace("%s", str(files[0])))
    assert seen(files, tmp_path / "cache") == (first, ["a"])
    assert seen(files, tmp_path / "cache") == (first, [])


def test_the_same_file_twice_has_one_digest_twice(tmp_path: Path) -> None:
    (file,) = written(tmp_path, a="one")
    assert seen([file, file], tmp_path / "cache")[0] == [digest(b"one")] * 2


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    files = written(tmp_path, a="one")
    with pytest.raises(OSError, match="stop"), file_digests(files, cache=tmp_path / "cache", read=Reader()):
        raise OSError("stop")
    assert not (tmp_path / "cache").exists()
