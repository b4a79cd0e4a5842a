"""Spoiled annotations, manifests and safetensors files: what was written, or one sentence; and no file changes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from engine.coresets import WarmupStatistics, load_warmup, save_warmup
from engine.data.sets import karpathy
from engine.experts.store import ExpertStore
from engine.io.paths import Paths
from tests.fuzz.mutations import THOROUGH, contents, refused_in_a_sentence, spoiled, torn, with_header

ANNOTATION = {
    "images": [
        {"filename": f"{i}.png", "filepath": "", "split": split, "sentences": [{"raw": f"caption {i}"}] * 2}
        for i, split in enumerate(["train", "train", "restval", "val", "test"])
    ]
}
FLAT = [{"image": f"{i}.png", "caption": [f"caption {i}", "other"]} for i in range(2)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """Return places with five photos, and a secret beside them."""
    root = tmp_path_factory.mktemp("photos")
    (root / "data" / "made" / "images").mkdir(parents=True)
    for index in range(5):
        Image.new("RGB", (4, 4), (50 * index, 0, 0)).save(root / "data" / "made" / "images" / f"{index}.png")
    Image.new("RGB", (4, 4)).save(root / "data" / "secret.png")
    return Paths(data=root / "data", weights=root / "weights", cache=root / "cache")


def annotations(paths: Paths, data: bytes, name: str = "dataset_made.json") -> None:
    """Read the photos with an annotation file of these bytes; what is read lies in the image folder."""
    before = contents(paths.data)
    (paths.data / "made" / name).write_bytes(data)

    def read() -> None:
        for split in karpathy.DataSet(root="made", image_px=4, annotations=name).load(paths).values():
            for image in split.image_names:
                assert (paths.data / "made" / "images" / image).resolve().is_relative_to(paths.data / "made" / "images")

    refused_in_a_sentence(read)
    (paths.data / "made" / name).unlink()
    assert contents(paths.data) == before


@THOROUGH
@given(tree=spoiled(ANNOTATION))
def test_a_spoiled_annotation(tree: Any, photos: Paths) -> None:
    annotations(photos, json.dumps(tree).encode())


@THOROUGH
@given(tree=spoiled(FLAT))
def test_a_spoiled_flat_list(tree: Any, photos: Paths) -> None:
    for split, start in (("val", 2), ("test", 3)):
        rows = [{"image": f"{start + 1}.png", "caption": "one"}]
        (photos.data / "made" / f"x_{split}.json").write_text(json.dumps(rows), encoding="utf-8")
    annotations(photos, json.dumps(tree).encode(), "x_train.json")


def snapshots(folder: Path) -> ExpertStore:
    """Return a store of three epochs."""
    store = ExpertStore(folder / "experts")
    if not store.index():
        for epoch in range(3):
            store.save(0, epoch, {"image.w": torch.full((3,), float(epoch)), "text.w": torch.zeros(2)})
    return store


def store_reads(folder: Path, data: bytes, file: str) -> None:
    """Read a store of which one file has other bytes; what is read is what was written, and nothing changes."""
    store = snapshots(folder)
    path = store.folder / "expert_0000" / file
    whole = path.read_bytes()
    path.write_bytes(data)
    before = contents(folder)

    def read() -> None:
        for epoch in store.index()[0]:
            assert store.load(0, epoch)["image.w"].tolist() == [float(epoch)] * 3

    if not refused_in_a_sentence(lambda: store.check(0)):
        refused_in_a_sentence(lambda: store.index() and read())
    refused_in_a_sentence(store.index)
    refused_in_a_sentence(lambda: store.load(0, 1))
    assert contents(folder) == before
    path.write_bytes(whole)
    store.check(0)


MANIFEST: dict[str, Any] = {
    "format_version": 1,
    "snapshots": {str(epoch): {"bytes": 216, "sha256": f"{epoch:064x}"} for epoch in range(3)},
}


@THOROUGH
@given(tree=spoiled(MANIFEST))
def test_a_spoiled_manifest(tree: Any, tmp_path: Path) -> None:
    store_reads(tmp_path, json.dumps(tree).encode(), "manifest.json")


@THOROUGH
@given(data=st.data())
def test_a_torn_manifest(data: st.DataObject, tmp_path: Path) -> None:
    whole = (snapshots(tmp_path).folder / "expert_0000" / "manifest.json").read_bytes()
    store_reads(tmp_path, data.draw(torn(whole)), "manifest.json")


@THOROUGH
@given(data=st.data())
def test_a_torn_snapshot(data: st.DataObject, tmp_path: Path) -> None:
    whole = (snapshots(tmp_path).folder / "expert_0000" / "epoch_0001.safetensors").read_bytes()
    store_reads(tmp_path, data.draw(torn(whole)), "epoch_0001.safetensors")


def warmup(path: Path) -> None:
    """Write the evidence of a small warm-up."""
    save_warmup(
        path,
        WarmupStatistics(
            torch.zeros(2, 3),
            torch.zeros(4, 3),
            torch.arange(4) // 2,
            *torch.zeros(1, 4).long(),
            *torch.zeros(2, 4).bool(),
        ),
    )


@st.composite
def metadata_spoiled(draw: st.DrawFn, header: dict[str, Any]) -> dict[str, Any]:
    """Return a header in which one text of its metadata is torn."""
    metadata = header["__metadata__"]
    key = draw(st.sampled_from(sorted(metadata)))
    changed = draw(torn(metadata[key].encode())).decode(errors="replace")
    return {**header, "__metadata__": {**metadata, key: changed}}


@THOROUGH
@given(data=st.data())
def test_torn_or_spoiled_evidence_of_a_warm_up(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    warmup(path)
    whole = path.read_bytes()
    match data.draw(st.sampled_from(["torn", "header", "metadata"])):
        case "torn":
            path.write_bytes(data.draw(torn(whole)))
        case "header":
            path.write_bytes(with_header(whole, lambda header: data.draw(spoiled(header))))
        case "metadata":
            path.write_bytes(with_header(whole, lambda header: data.draw(metadata_spoiled(header))))
    refused_in_a_sentence(lambda: load_warmup(path))
