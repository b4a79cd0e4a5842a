"""Results in an object store: here one in memory, which like all of them knows whole files alone, and no locks."""

import errno
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from fsspec.exceptions import FSTimeoutError

from engine.cluster.nodes import check_nodes
from engine.experts.lease import Lease
from engine.experts.store import DamagedError, ExpertStore
from engine.io.files import atomic_path, read_json, write_json
from engine.io.storage import (
    Location,
    StorageError,
    as_file,
    check_answers,
    check_writable,
    create,
    is_of_store,
    location,
    on_disk,
    remove_tree,
    staged,
)
from engine.results.files import read_table, write_table
from engine.results.row import Row
from engine.synthetic.set import SyntheticSet, load_set


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Location:
    """Return a folder of its own in a store of this process."""
    return location(f"memory://{request.node.name}/runs")


def names(folder: Location) -> list[str]:
    return sorted(path.name for path in folder.glob("**/*") if path.is_file())


def test_a_path_is_absolute_and_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert location("runs") == tmp_path / "runs"
    assert location("file:///shared/runs") == Path("/shared/runs")
    assert on_disk(location("runs"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file", r"/file is no folder"),
        ("file/inside", r"/file is no folder"),
        ("broken/inside", r"/broken is no folder"),
        ("caf\udce9", "its path is not UTF-8"),
        ("/sys/nothing", "/sys: .*"),
    ],
)
def test_a_folder_that_cannot_be_used_is_named_with_the_reason(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "broken").symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match=rf"^key is '.*', expected a folder that can be written to \(.*{reason}\)\.$"):
        check_writable(tmp_path / name, key="key")


def test_a_folder_that_can_be_made_is_not_made(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b #1 ?", key="key")
    check_writable(tmp_path, key="key")
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_hangs_is_given_up(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.io.storage.PATIENCE_S", 0.2)
    monkeypatch.setattr(type(place.fs), "pipe_file", lambda *_: time.sleep(3))
    with pytest.raises(StorageError, match=r"^storage: memory://.*/runs failed \(it did not answer\)$"):
        check_answers(place)


@pytest.mark.parametrize("uri", ["nowhere://bucket/runs", "dask://runs"])
def test_a_store_that_cannot_be_opened_is_named(uri: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^storage is '{uri}', expected a path or a URI that can be opened \(.*\)\.$"
    ):
        location(uri)


def test_the_sentence_names_what_was_given() -> None:
    with pytest.raises(ValueError, match=r"^--set is 'nowhere://a/set.safetensors', expected a path or a URI"):
        location("nowhere://a/set.safetensors", key="--set")


def test_a_file_is_there_when_it_is_whole(place: Location) -> None:
    write_json(place / "a" / "value.json", {"one": 1})
    with suppress(RuntimeError), atomic_path(place / "a" / "value.json") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(place / "a" / "value.json") == {"one": 1}
    assert names(place) == ["value.json"]


def test_an_upload_that_fails_names_the_file(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise RuntimeError("Unable to locate credentials.")

    monkeypatch.setattr(type(place.fs), "put_file", refuse)
    with pytest.raises(OSError, match=r"value\.json: the upload failed \(Unable to locate credentials\)$"):
        write_json(place / "value.json", {})


def test_a_store_that_answers_keeps_nothing_of_the_question(place: Location, tmp_path: Path) -> None:
    check_answers(place)
    assert names(place) == []
    check_answers(tmp_path / "absent")


def test_a_store_that_does_not_answer_is_named(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise RuntimeError("Unable to\nlocate credentials.")

    monkeypatch.setattr(type(place.fs), "pipe_file", refuse)
    with pytest.raises(StorageError) as caught:
        check_answers(place)
    assert str(caught.value) == f"storage: {place} failed (Unable to locate credentials)"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FSTimeoutError(), True),
        (OSError("the upload failed"), False),
        (FileNotFoundError("no such key"), False),
        (KeyError("k"), False),
        (ValueError("storage is 'x'"), False),
    ],
)
def test_an_error_of_a_store_is_known_by_its_package(error: Exception, expected: bool) -> None:
    assert is_of_store(error) is expected
    error.__cause__ = FSTimeoutError()
    assert is_of_store(error) is (expected or type(error) is OSError)


def test_a_storage_that_cannot_be_opened_is_found_out_first(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonesuch")
    with pytest.raises(ValueError, match=r"^storage: s3://bucket/runs cannot be written to \(.*\), expected another"):
        check_nodes(location("s3://bucket/runs"))


def test_a_copy_keeps_its_name_and_goes(place: Location) -> None:
    write_json(place / "value.json", 3)
    with as_file(place / "value.json") as copy:
        assert (copy.name, read_json(copy)) == ("value.json", 3)
    assert not copy.exists()
    with pytest.raises(FileNotFoundError), as_file(place / "absent.json"):
        pass


def test_a_staged_folder_arrives_and_goes_as_one(place: Location) -> None:
    with staged(place / "pictures") as folder:
        (folder / "a.png").write_bytes(b"a")
        (folder / "b.png").write_bytes(b"b")
        assert names(place) == []
    assert names(place / "pictures") == ["a.png", "b.png"]
    remove_tree(place / "pictures")
    remove_tree(place / "pictures")
    assert names(place) == []


def test_trajectories_are_kept_checked_and_forgotten(place: Location) -> None:
    store = ExpertStore(place)
    for epoch in range(3):
        store.save(0, epoch, {"image.w": torch.full((4,), float(epoch)), "text.w": torch.ones(2)})
    before = store.written(0)
    assert store.index() == {0: (0, 1, 2)}
    assert torch.equal(store.load(0, 2)["image.w"], torch.full((4,), 2.0))
    (place / "expert_0000" / "epoch_0001.safetensors").write_bytes(b"cut")
    with pytest.raises(DamagedError, match=r"epoch_0001\.safetensors: its checksum is not the one") as caught:
        store.check(0)
    store.sweep()
    store.forget_from(0, caught.value.epoch)
    assert store.index() == {0: (0,)}
    assert store.written(0) != before
    assert names(place) == ["epoch_0000.safetensors", "manifest.json"]


def test_the_lease_goes_from_one_to_the_next(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.experts.lease.SETTLE_S", 0.05)
    first, second = (Lease(place / "lease.json", beat_s=0.05, stale_s=0.5) for _ in range(2))
    waited: list[str] = []

    def on_wait(holder: object) -> None:
        waited.append(holder.owner)
        if len(waited) > 3:
            raise TimeoutError

    for_us = first.held(on_wait=on_wait, on_loss=lambda: None)
    for_them = second.held(on_wait=on_wait, on_loss=lambda: None)
    with for_us, pytest.raises(TimeoutError), for_them:
        pass
    assert set(waited) == {first.me.owner}
    with second.held(on_wait=on_wait, on_loss=lambda: None):
        assert second.holder() is not None
    assert names(place) == []


def test_who_was_overwritten_as_it_took_the_lease_waits(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = Lease(place / "lease.json"), Lease(place / "lease.json")
    waited: list[str] = []

    def settle(seconds: float) -> None:
        if not waited:  # another one finds the lease free at the same time, and writes last
            write_json(place / "lease.json", vars(theirs.me))

    def on_wait(holder: object) -> None:
        waited.append(holder.owner)
        (place / "lease.json").unlink()

    monkeypatch.setattr("engine.experts.lease.time.sleep", settle)
    with ours.held(on_wait=on_wait, on_loss=lambda: None):
        assert waited == [theirs.me.owner]


def test_a_holder_of_the_lease_bears_a_store_that_is_away(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.experts.lease.SETTLE_S", 0.05)
    read, asked = type(place.fs).cat_file, threading.Semaphore(0)

    def away(*arguments: object, **options: object) -> bytes:
        asked.release()
        raise FSTimeoutError

    lease, lost = Lease(place / "lease.json", beat_s=0.05), threading.Event()
    with lease.held(on_wait=pytest.fail, on_loss=lost.set):
        monkeypatch.setattr(type(place.fs), "cat_file", away)
        assert all(asked.acquire(timeout=10) for _ in range(3))
        with pytest.raises(StorageError, match=r"lease\.json: it cannot be read \(FSTimeoutError\)$"):
            lease.holder()
        monkeypatch.setattr(type(place.fs), "cat_file", read)
        before, deadline = lease.holder(), time.monotonic() + 10
        while lease.holder() == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lease.holder() != before
    assert not lost.is_set()
    assert names(place) == []


def test_of_two_that_find_no_lease_one_creates_it(place: Location) -> None:
    assert create(place / "lease.json", b"ours")
    assert not create(place / "lease.json", b"theirs")
    assert (place / "lease.json").read_bytes() == b"ours"


def test_a_store_that_knows_no_conditions_is_written_to(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    write = type(place.fs).pipe_file

    def unconditional(*arguments: object, mode: str = "overwrite", **options: object) -> None:
        if mode == "create":
            raise OSError(errno.ENOSYS, "A header you provided implies functionality that is not implemented")
        write(*arguments, **options)

    monkeypatch.setattr(type(place.fs), "pipe_file", unconditional)
    assert create(place / "lease.json", b"ours")
    assert (place / "lease.json").read_bytes() == b"ours"


def test_sets_and_tables_come_back(place: Location) -> None:
    synthetic = SyntheticSet(torch.rand(2, 3, 4, 4), torch.rand(2, 5), {"image": 0.1, "text": 0.2}, {"seed": 1})
    synthetic.save(place / "set.safetensors")
    again = load_set(place / "set.safetensors")
    assert torch.equal(again.images, synthetic.images)
    assert again.metadata == {"seed": 1}
    rows = [Row(name="ours", pairs=2, mean={"IR1": 3.0})]
    write_table(place, rows)
    assert read_table(place) == rows
    with pytest.raises(FileNotFoundError, match="expected a result table"):
        read_table(place / "elsewhere")
