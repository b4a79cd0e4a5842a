"""Files that are either whole or absent, and locks."""

import os
import platform
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest

from engine.io.files import atomic_path, digest, exclusive, read_json, write_json


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "data.bin"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"first")
        assert temporary.parent == path.parent  # a rename across file systems is not atomic
        assert not path.exists()
    assert path.read_bytes() == b"first"
    assert listing(path.parent) == ["data.bin"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_no_temporary(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(b"old")

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half of the n")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["data.bin"]


def test_a_reader_of_the_old_file_keeps_it_while_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


def test_writers_of_one_file_do_not_share_a_temporary(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    with atomic_path(path) as first, atomic_path(path) as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert path.read_bytes() == b"first"  # the outer block ends last
    assert listing(tmp_path) == ["data.bin"]


def test_temporaries_are_hidden_from_patterns(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "expert.safetensors") as temporary:
        temporary.write_bytes(b"x")
        assert list(tmp_path.glob("expert*")) == []
        assert list(tmp_path.glob("*.safetensors")) == []


def test_json_survives_and_keys_are_sorted(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None, "ü"], "a": {"c": True}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text.index('"a"') < text.index('"b"')
    write_json(tmp_path / "b.json", {"a": value["a"], "b": value["b"]})
    assert (tmp_path / "b.json").read_text(encoding="utf-8") == text


def test_a_value_that_is_no_json_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"folder": tmp_path})
    assert read_json(tmp_path / "a.json") == 1
    assert listing(tmp_path) == ["a.json"]


@pytest.mark.parametrize("data", [b"", b'{"a": 1', b"\xff\xfe\x00"])
def test_what_is_no_json_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.json: expected a JSON file, but it cannot be parsed"):
        read_json(path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"[" * 5000, "it is nested too deeply"),
        (b"[" + b"9" * 5000 + b"]", "an integer in it has thousands of digits"),
        ("{}".encode("utf-16"), "it is encoded in UTF-16, expected UTF-8"),
        ('{\n"a": "é"}'.encode("latin-1"), """line 2 is not in UTF-8; in Latin-1 it is '"a": "é"}'"""),
    ],
)
def test_why_it_is_no_json_is_said(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(ValueError, match=rf"a\.json: expected a JSON file, but it cannot be parsed \({reason}\)\.$"):
        read_json(tmp_path / "a.json")


def test_a_byte_order_mark_is_no_part_of_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "a.json") == [1]


def test_a_digest_takes_names_that_are_not_in_utf_8() -> None:
    assert digest(b"a\xff".decode(errors="surrogateescape")) != digest("a")


def test_a_digest_knows_order_and_borders() -> None:
    parts = [("ab", "c"), ("a", "bc"), ("abc",), ("c", "ab"), ("ab", "c", ""), ()]
    assert len({digest(*given) for given in parts}) == len(parts)
    assert digest("ü", b"x") == digest("ü".encode(), "x")
    assert len(digest()) == 16


def test_one_that_waits_for_a_lock_hears_once_who_holds_it_and_since_when(tmp_path: Path) -> None:
    path, heard, held = tmp_path / "folder" / "lock", list[str](), list[str]()

    def wait() -> None:
        with exclusive(path, on_wait=heard.append):
            held.append("now")

    for _ in range(2):  # a second holder is not taken for the first
        waiting = threading.Thread(target=wait)
        with exclusive(path, on_wait=pytest.fail):
            began = time.time()
            waiting.start()
            while not heard and time.time() < began + 30:
                time.sleep(0.01)
            assert not held
        waiting.join(30)
        (words,) = heard
        process, since = words.split(" since ")
        assert process == f"process {os.getpid()} on {platform.node()}"
        assert abs(datetime.fromisoformat(since).timestamp() - began) < 5
        assert held == ["now"]
        heard.clear()
        held.clear()


def test_the_wait_for_a_holder_that_has_not_said_who_it_is(tmp_path: Path) -> None:
    heard: list[str] = []

    def give_up(holder: str) -> None:
        heard.append(holder)
        raise TimeoutError

    with (
        exclusive(tmp_path / "lock"),
        pytest.raises(TimeoutError),
        exclusive(tmp_path / "lock", on_wait=give_up),
    ):
        pass
    assert heard == ["another process"]
