"""Trajectories on disk: whole or invisible."""

import json
import pickle
import resource
from pathlib import Path

import pytest
import torch

from engine.experts.store import DamagedError, ExpertStore
from engine.experts.trajectory import ExpertSource, sample_segment
from engine.io.files import read_json
from engine.rng import named_generator
from engine.tensors import Params


def params(number: float = 0.0, size: int = 4) -> Params:
    values = {"image.encoder.b": torch.full((size, 3), float(number)), "text.a": torch.full((2,), number + 0.5)}
    return {name: value.requires_grad_() for name, value in values.items()}


def same(one: Params, other: Params) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture
def store(tmp_path: Path) -> ExpertStore:
    """Return a store with two snapshots of expert 0 and one of expert 12."""
    given = ExpertStore(tmp_path / "experts")
    for expert, epoch in ((0, 0), (0, 1), (12, 3)):
        given.save(expert, epoch, params(10 * expert + epoch))
    return given


def snapshot(store: ExpertStore, epoch: int = 1) -> Path:
    return store.folder / "expert_0000" / f"epoch_{epoch:04d}.safetensors"


def manifest(store: ExpertStore) -> Path:
    return store.folder / "expert_0000" / "manifest.json"


def test_what_is_saved_is_listed_and_comes_back_bitwise(store: ExpertStore) -> None:
    assert isinstance(store, ExpertSource)
    assert store.index() == {0: (0, 1), 12: (3,)}
    assert same(store.load(0, 1), params(1))
    assert same(store.load(12, 3), params(123))
    assert store.load(0, 0)["text.a"].dtype == torch.float32
    assert not store.load(0, 0)["text.a"].requires_grad


def test_epochs_are_in_the_order_of_numbers(store: ExpertStore) -> None:
    for epoch in (10, 9, 2):
        store.save(0, epoch, params(epoch))
    assert store.index()[0] == (0, 1, 2, 9, 10)


def test_another_reader_sees_the_same(store: ExpertStore) -> None:
    other = ExpertStore(store.folder)
    drawn = [sample_segment(one, named_generator(0, "s"), span=1, max_start=1) for one in (store, other)]
    assert same(drawn[0].start, drawn[1].start)
    assert same(drawn[0].target, params(1))


def test_loaded_parameters_are_the_readers_own(store: ExpertStore) -> None:
    for value in store.load(0, 1).values():
        value.zero_()
    assert same(store.load(0, 1), params(1))


def test_saving_again_replaces(store: ExpertStore) -> None:
    store.save(0, 1, params(7))
    assert same(store.load(0, 1), params(7))
    assert store.index()[0] == (0, 1)


def test_another_snapshot_in_its_place_takes_the_later_ones_along(store: ExpertStore) -> None:
    store.save(0, 2, params(2))
    store.save(0, 1, params(1))
    assert store.index()[0] == (0, 1, 2)
    store.save(0, 1, params(7))
    assert store.index()[0] == (0, 1)
    assert not snapshot(store, 2).exists()


def test_a_curve_lies_beside_the_snapshots_and_forgets_later_epochs(store: ExpertStore) -> None:
    before = manifest(store).read_bytes()
    assert store.curve(0) == {}
    for epoch in (1, 2, 3):
        store.record(0, epoch, {"loss": 1.0 / epoch})
    store.record(0, 2, {"loss": 9.0})
    assert store.curve(0) == {1: {"loss": 1.0}, 2: {"loss": 9.0}}
    assert manifest(store).read_bytes() == before
    (manifest(store).parent / "curve.json").write_text("damaged", encoding="utf-8")
    assert store.curve(0) == {}, "a curve decides nothing"


def test_checking_names_what_is_damaged_and_from_which_epoch(store: ExpertStore) -> None:
    store.save(0, 2, params(2))
    store.check(0)
    snapshot(store).write_bytes(b"damaged")
    with pytest.raises(DamagedError, match=r"epoch_0001\.safetensors: its checksum") as caught:
        store.check(0)
    assert (caught.value.epoch, pickle.loads(pickle.dumps(caught.value)).epoch) == (1, 1)
    store.forget_from(0, 1)
    assert (store.index()[0], sorted(path.name for path in manifest(store).parent.glob("e*"))) == (
        (0,),
        ["epoch_0000.safetensors"],
    )
    with pytest.raises(DamagedError, match="expected an entry of epoch 0 before that of 3"):
        store.check(12)


def test_what_killed_writers_left_is_swept(store: ExpertStore) -> None:
    (store.folder / "expert_0000" / ".epoch_0002.safetensors.0123abcd").write_bytes(b"half")
    store.sweep()
    assert [path.name for path in (store.folder / "expert_0000").glob(".*")] == [".lock"]
    store.check(0)


def test_an_empty_store_has_no_experts(tmp_path: Path) -> None:
    assert ExpertStore(tmp_path / "nowhere").index() == {}


def test_a_write_that_fails_half_way_is_invisible(store: ExpertStore) -> None:
    before = sorted(store.folder.rglob("*"))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))  # the disk takes 4 KiB of the 12
    try:
        with pytest.raises(OSError, match="no room left"):
            store.save(0, 2, params(2, size=1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert sorted(store.folder.rglob("*")) == before
    assert store.index() == {0: (0, 1), 12: (3,)}


def test_a_snapshot_whose_manifest_was_not_written_is_invisible_and_written_again(store: ExpertStore) -> None:
    named = manifest(store).read_bytes()
    store.save(0, 2, params(2))
    manifest(store).write_bytes(named)  # as if the writer had died between the two
    assert snapshot(store, 2).is_file()
    assert store.index()[0] == (0, 1)
    with pytest.raises(FileNotFoundError, match=r"epoch_0002\.safetensors: expert 0 has no snapshot of epoch 2\.$"):
        store.load(0, 2)
    store.save(0, 2, params(3))
    assert store.index()[0] == (0, 1, 2)
    assert same(store.load(0, 2), params(3))


def test_what_a_killed_writer_leaves_is_invisible(store: ExpertStore) -> None:
    (store.folder / "expert_0000" / ".epoch_0002.safetensors.0123abcd").write_bytes(b"half")
    (store.folder / "expert_0000" / ".manifest.json.0123abcd").write_bytes(b'{"snapsh')
    (store.folder / "expert_0001").mkdir()
    (store.folder / "expert_0001" / "epoch_0000.safetensors").write_bytes(b"whole but unnamed")
    assert store.index() == {0: (0, 1), 12: (3,)}
    with pytest.raises(FileNotFoundError, match="expert 1 has no snapshot of epoch 0"):
        store.load(1, 0)


def test_a_snapshot_that_is_gone_is_named(store: ExpertStore) -> None:
    snapshot(store).unlink()
    with pytest.raises(FileNotFoundError, match=r"epoch_0001\.safetensors: expert 0 has no snapshot of epoch 1\.$"):
        store.load(0, 1)


@pytest.mark.parametrize("damage", ["truncated", "a bit", "another snapshot", "empty"])
def test_a_damaged_snapshot_is_named_by_its_checksum(store: ExpertStore, damage: str) -> None:
    data = bytearray(snapshot(store).read_bytes())
    flipped = data[:-1] + bytes([data[-1] ^ 1])
    wrong = {
        "truncated": data[:-5],
        "a bit": flipped,
        "another snapshot": snapshot(store, 0).read_bytes(),
        "empty": b"",
    }
    snapshot(store).write_bytes(wrong[damage])
    with pytest.raises(ValueError, match=r"expert_0000/epoch_0001\.safetensors: its checksum is not the one in"):
        store.load(0, 1)
    assert same(store.load(0, 0), params(0))


def test_the_manifest_holds_checksums_and_sizes(store: ExpertStore) -> None:
    written = read_json(manifest(store))
    assert written["format_version"] == 1
    assert written["snapshots"]["1"]["bytes"] == snapshot(store).stat().st_size
    assert len(written["snapshots"]["1"]["sha256"]) == 64


@pytest.mark.parametrize("content", [{"format_version": 2, "snapshots": {}}, {"format_version": 1}, {}, []])
def test_a_later_or_foreign_manifest_is_named(store: ExpertStore, content: object) -> None:
    manifest(store).write_text(json.dumps(content), encoding="utf-8")
    for read in (store.index, lambda: store.load(0, 0)):
        with pytest.raises(ValueError, match=r"manifest\.json: expected snapshots and format_version 1, but it has"):
            read()


def test_a_truncated_manifest_is_named(store: ExpertStore) -> None:
    manifest(store).write_bytes(manifest(store).read_bytes()[:20])
    with pytest.raises(ValueError, match=r"manifest\.json: expected a JSON file"):
        store.index()


def test_the_recipe_and_its_first_code_are_described_once(store: ExpertStore) -> None:
    store.check_inputs({"captions": "1"})
    store.describe({"lr": 0.1}, {"code": "a"}, {"captions": "1"})
    store.describe({"lr": 0.1}, {"code": "b"}, {"captions": "2"})
    described = {"recipe": {"lr": 0.1}, "provenance": {"code": "a"}, "inputs": {"captions": "1"}}
    assert read_json(store.folder / "recipe.json") == described
    store.check_inputs({"captions": "1"})
    with pytest.raises(ValueError, match=r"its experts were trained on other captions than the study reads now"):
        store.check_inputs({"captions": "2"})
    assert store.index() == {0: (0, 1), 12: (3,)}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_snapshot_that_is_not_finite_is_named(store: ExpertStore, value: float) -> None:
    store.save(0, 2, params(value))
    with pytest.raises(ValueError, match=r"epoch_0002\.safetensors: \S+\[0.* is (nan|inf), expected finite numbers\.$"):
        store.load(0, 2)
