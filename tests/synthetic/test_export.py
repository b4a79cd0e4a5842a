"""A set as a folder: what other libraries and the engine read back from it, and what it says of damage."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from engine.rng import named_generator
from engine.synthetic.folder import read_folder, set_digest, write_folder
from engine.synthetic.set import SyntheticSet, load_set
from engine.synthetic.similarity import Full, SimilarityOptions, make_similarity
from engine.synthetic.views import PairsDataset, frame

CAPTIONS = ["a dog", 'a "cat", on a\tmat', "一只狗", "two\nlines \u2028 here"]


def a_set(kind: str = "low_rank", *, tokens: bool = False) -> SyntheticSet:
    drawn = named_generator(0, "set")
    images = torch.rand(4, 3, 6, 5, generator=drawn) * 1.4 - 0.2  # some pixels lie outside of [0, 1]
    texts = torch.randn(4, *((3, 8) if tokens else (7,)), generator=drawn)
    similarity = make_similarity(SimilarityOptions(kind=kind, rank=2), 4, drawn)  # type: ignore[arg-type]
    with torch.no_grad():
        for value in similarity.parameters():
            value.add_(0.25)
    loss = "info_nce" if kind == "identity" else "kl"
    metadata = {"seed": 3, "data": {"name": "karpathy", "root": "/home/someone/photos"}}
    return SyntheticSet(
        images, texts, {"image": 0.1, "text": 0.37}, metadata, similarity=similarity, loss=loss, captions=CAPTIONS
    )


@pytest.mark.parametrize("tar", [False, True], ids=["images", "tar"])
@pytest.mark.parametrize(("kind", "tokens"), [("low_rank", False), ("full", False), ("identity", True)])
def test_a_folder_gives_everything_back_but_the_pixels_below_8_bits(
    kind: str, tokens: bool, tar: bool, tmp_path: Path
) -> None:
    synthetic = a_set(kind, tokens=tokens)
    write_folder(tmp_path, synthetic, tar=tar)
    again = load_set(tmp_path)
    assert torch.equal((again.images * 255).round(), (synthetic.images.clamp(0, 1) * 255).round())
    assert torch.equal(again.texts, synthetic.texts)
    assert all(torch.equal(again.log_rates[m], synthetic.log_rates[m]) for m in ("image", "text"))
    assert (again.loss, again.captions) == (synthetic.loss, tuple(CAPTIONS))
    before, after = synthetic.similarity(), again.similarity()
    assert before is after is None or torch.equal(before, after)
    assert again.metadata == {"seed": 3, "data": {"name": "karpathy", "root": "photos"}}, "no folder of this machine"


def test_the_same_set_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_folder(tmp_path / name, a_set(), tar=True)
    assert set_digest(tmp_path / "a") == set_digest(tmp_path / "b")
    (tmp_path / "b" / "README.md").write_text("a card", encoding="utf-8")
    assert set_digest(tmp_path / "a") == set_digest(tmp_path / "b")


def test_the_datasets_library_reads_both_forms(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    synthetic = a_set()
    for name, tar in (("images", False), ("tar", True)):
        (tmp_path / name).mkdir()
        write_folder(tmp_path / name, synthetic, tar=tar)
    cache = str(tmp_path / "cache")
    images = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "images"), cache_dir=cache)["train"]
    assert images["text"][:] == CAPTIONS
    web = datasets.load_dataset("webdataset", data_files=str(tmp_path / "tar" / "train.tar"), cache_dir=cache)["train"]
    assert web["txt"][:] == CAPTIONS
    torch.testing.assert_close(torch.tensor(web["text_embedding.npy"][:]), synthetic.texts.detach())
    own = PairsDataset(load_set(tmp_path / "images"))
    for index in range(4):
        for row in (images[index]["image"], web[index]["png"]):
            pixels = torch.frombuffer(bytearray(row.tobytes()), dtype=torch.uint8).view(6, 5, 3).permute(2, 0, 1) / 255
            assert torch.equal(pixels, own[index]["image"])


# --- damage


def garbage(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(b"this is none")


def absent(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def described(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "learned.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")

    return change


def tabled(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "train" / "metadata.jsonl"
        path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")

    return change


def learned(**changes: torch.Tensor) -> Callable[[Path], None]:
    return lambda folder: save_file(load_file(folder / "learned.safetensors") | changes, folder / "learned.safetensors")


def resized(folder: Path) -> None:
    Image.new("RGB", (9, 9)).save(folder / "train" / "0003.png")


DAMAGE = [
    (absent("learned.json"), "there is no synthetic set here, expected learned.json"),
    (garbage("learned.json"), "learned.json: expected a JSON file"),
    (described(format_version=2), "learned.json: expected format_version 1, but the file has 2."),
    (described(loss="mse"), "expected one of the losses"),
    (described(loss=["kl"]), "expected one of the losses"),
    (described(learning_rates={"image": 0, "text": 1}), "learning_rates.image is 0, expected a number above 0"),
    (described(learning_rates=None), "learning_rates.image is null"),
    (described(metadata=[]), "expected metadata that is a JSON object"),
    (garbage("learned.safetensors"), "learned.safetensors: expected tensors in safetensors"),
    (learned(more=torch.zeros(1)), "expected text_embedding and perhaps similarity"),
    (learned(text_embedding=torch.full((4, 7), torch.nan)), "text_embedding[0, 0] is nan, expected finite numbers"),
    (learned(text_embedding=torch.zeros(3, 7)), "it has 4 pairs, expected the 3 of learned.safetensors"),
    (learned(similarity=torch.zeros(4, 3)), "similarity has the shape [4, 3], expected [4, 4]"),
    (garbage("train/0002.png"), "0002.png: expected a PNG, but it cannot be decoded"),
    (resized, "0003.png is [9, 9] pixels high and wide, expected [6, 5]"),
    (garbage("train/metadata.jsonl"), "line 1: expected JSON"),
    (tabled('"text"', '"words"'), "line 1 is {'file_name': '0001.png', 'words': 'a dog'}, expected 'file_name'"),
    (tabled("0002.png", "../0002.png"), "expected 'file_name', a PNG beside this file"),
]


@pytest.mark.parametrize(("spoil", "told"), DAMAGE, ids=range(len(DAMAGE)))
def test_a_damaged_folder_is_told_in_a_sentence(spoil: Callable[[Path], None], told: str, tmp_path: Path) -> None:
    write_folder(tmp_path, a_set())
    spoil(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        read_folder(tmp_path)
    assert told in str(raised.value)
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize("cut", [100, 3000])
def test_a_tar_that_is_cut_is_told(cut: int, tmp_path: Path) -> None:
    write_folder(tmp_path, a_set(), tar=True)
    path = tmp_path / "train.tar"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"train\.tar: "):
        load_set(tmp_path)


def test_an_image_of_a_tar_without_its_caption_is_told(tmp_path: Path) -> None:
    write_folder(tmp_path, a_set(), tar=True)
    with tarfile.open(tmp_path / "train.tar", "a") as archive:
        archive.addfile(tarfile.TarInfo("0009.png"), io.BytesIO())
    with pytest.raises(ValueError, match=r"it has 0009\.png without 0009\.txt, expected both"):
        load_set(tmp_path)


# --- captions in the file of a set


def test_a_file_keeps_its_captions_and_older_files_have_none(tmp_path: Path) -> None:
    synthetic = a_set()
    synthetic.save(tmp_path / "set.safetensors")
    assert load_set(tmp_path / "set.safetensors").captions == tuple(CAPTIONS)
    synthetic.captions = None
    synthetic.save(tmp_path / "old.safetensors")
    assert load_set(tmp_path / "old.safetensors").captions is None


@pytest.mark.parametrize("captions", ['{"a": 1}', '["one"]', "[1, 2, 3, 4]", "[", "9"])
def test_captions_that_are_none_are_told(captions: str, tmp_path: Path) -> None:
    tensors = {name: value.detach().contiguous() for name, value in a_set().state_dict().items()}
    save_file(tensors, tmp_path / "set.safetensors", metadata={"format_version": "1", "captions": captions})
    with pytest.raises(ValueError, match=r"set\.safetensors: .*captions"):
        load_set(tmp_path / "set.safetensors")


# --- views


def test_a_loader_and_a_frame_hold_the_pairs() -> None:
    synthetic = a_set()
    batch = next(iter(DataLoader(PairsDataset(synthetic), batch_size=3)))
    assert batch["image"].shape == (3, 3, 6, 5)
    assert (batch["image"].min(), batch["image"].max()) == (0, 1)
    assert torch.equal(batch["text_embedding"], synthetic.texts[:3])
    assert batch["caption"] == CAPTIONS[:3]
    rows = PairsDataset(synthetic).similarity[batch["index"]][:, batch["index"]]
    assert torch.equal(rows, synthetic.similarity()[:3, :3])  # type: ignore[index]
    table = frame(synthetic)
    assert table.columns == ["pair", "caption", "image", "text_embedding"]
    assert table["caption"].to_list() == CAPTIONS
    assert Image.open(io.BytesIO(table["image"][1])).size == (5, 6)
    assert table["text_embedding"].to_numpy().shape == (4, 7)
    synthetic.captions = None
    assert frame(synthetic)["caption"].to_list() == [None] * 4
    assert "caption" not in PairsDataset(synthetic)[0]


def test_without_a_learned_similarity_pairs_belong_together() -> None:
    assert torch.equal(PairsDataset(a_set("identity")).similarity, torch.eye(4))
    assert isinstance(a_set("full").similarity, Full)
