import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.data.sets import karpathy
from engine.io.paths import Paths
from tests.data.photos import save_photos


def entry(name: str, split: str, captions: int = 2, **more: Any) -> dict[str, Any]:
    sentences = [{"raw": f" {name} caption {index} .", "tokens": []} for index in range(captions)]
    return {"filename": name, "split": split, "sentences": sentences, **more}


ENTRIES = [entry("a.png", "train"), entry("v.png", "val", 3), entry("t.png", "test"), entry("b.png", "restval", 5)]


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def karpathy_set(root: Path, *, entries: list[dict[str, Any]] | None = None, images: str = "images") -> Path:
    save_photos(root / images, ["a.png", "v.png", "t.png", "b.png"])
    return write(root / "dataset_made.json", {"images": ENTRIES if entries is None else entries})


def flat_set(root: Path, *, below: str = "ann_file") -> None:
    save_photos(root / "flickr30k-images", ["a.png", "b.png", "v.png", "t.png"])
    rows = [("b", "first of b"), ("a", "of a"), ("b", "second of b")]
    train = [{"image": f"flickr30k-images/{name}.png", "caption": text, "image_id": name} for name, text in rows]
    write(root / below / "flickr30k_train.json", train)
    for split in ("val", "test"):
        row = {"image": f"flickr30k-images/{split[0]}.png", "caption": [f"{split} 1", f"{split} 2"]}
        write(root / below / f"flickr30k_{split}.json", [row])


@pytest.mark.parametrize("images", [".", "images", "Images", "flickr30k-images", "my photos"])
def test_karpathy_layout(paths: Paths, images: str) -> None:
    karpathy_set(paths.data / "made", images=images)
    data = karpathy.DataSet(root="made", image_px=8).load(paths)
    assert data["train"].image_names == ("a.png", "b.png")
    assert data["train"].captions[:3] == ("a.png caption 0 .", "a.png caption 1 .", "b.png caption 0 .")
    assert data["train"].caption_image.tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert {split: len(pairs) for split, pairs in data.items()} == {"train": 7, "val": 3, "test": 2}
    assert data["test"].images.shape == (1, 3, 8, 8)


def test_restval_can_be_left_out(paths: Paths) -> None:
    karpathy_set(paths.data / "made")
    assert karpathy.DataSet(root="made", image_px=8, restval=False).load(paths)["train"].image_names == ("a.png",)


def test_coco_names_have_a_folder(paths: Paths) -> None:
    root = paths.data / "coco"
    save_photos(root / "images", ["val2014/v.png", "val2014/t.png", "train2014/a.png"])
    names = {"train": "a.png", "val": "v.png", "test": "t.png"}
    folders = {"train": "train2014", "val": "val2014", "test": "val2014"}
    write(
        root / "dataset_coco.json",
        {"images": [entry(name, split, filepath=folders[split]) for split, name in names.items()]},
    )
    data = karpathy.DataSet(root="coco", image_px=8).load(paths)
    assert {split: pairs.image_names for split, pairs in data.items()} == {
        split: (f"{folders[split]}/{name}",) for split, name in names.items()
    }


@pytest.mark.parametrize("below", [".", "ann_file", "annotations"])
def test_flat_lists(paths: Paths, below: str) -> None:
    flat_set(paths.data / "f30k", below=below)
    data = karpathy.DataSet(root="f30k", image_px=8).load(paths)
    assert data["train"].image_names == ("flickr30k-images/b.png", "flickr30k-images/a.png")
    assert data["train"].captions == ("first of b", "second of b", "of a")
    assert data["train"].caption_image.tolist() == [0, 0, 1]
    assert data["val"].captions == ("val 1", "val 2")


def test_second_load_decodes_nothing(paths: Paths) -> None:
    karpathy_set(paths.data / "made")
    first = karpathy.DataSet(root="made", image_px=8).load(paths)
    arrays = {path: path.stat().st_mtime_ns for path in paths.cache.rglob("*.npy")}
    again = karpathy.DataSet(root="made", image_px=8).load(paths)
    assert {path: path.stat().st_mtime_ns for path in paths.cache.rglob("*.npy")} == arrays
    assert len(arrays) == 3
    np.testing.assert_array_equal(first["train"].images, again["train"].images)


def test_absolute_root_and_named_files(paths: Paths, tmp_path: Path) -> None:
    root = tmp_path / "elsewhere"
    karpathy_set(root, images="deep/down")
    write(root / "dataset_other.json", {"images": []})
    data = karpathy.DataSet(
        root=str(root), image_px=8, annotations="dataset_made.json", images="deep/down", restval=True
    ).load(paths)
    assert data["val"].num_images == 1


def test_root_that_is_absent(paths: Paths) -> None:
    with pytest.raises(FileNotFoundError, match=r"data\.root: 'nowhere' is not a folder .*VLDD_DATA"):
        karpathy.DataSet(root="nowhere").load(paths)


def test_no_annotations(paths: Paths) -> None:
    save_photos(paths.data / "made", ["a.png"])
    with pytest.raises(FileNotFoundError, match=r"made: expected a dataset_\*\.json or \*_train\.json"):
        karpathy.DataSet(root="made").load(paths)


def test_several_annotations(paths: Paths) -> None:
    karpathy_set(paths.data / "made")
    flat_set(paths.data / "made")
    with pytest.raises(ValueError, match=r"several .*\(dataset_made\.json, ann_file/flickr30k_train\.json\); name one"):
        karpathy.DataSet(root="made").load(paths)


def test_annotations_that_are_absent(paths: Paths) -> None:
    karpathy_set(paths.data / "made")
    with pytest.raises(FileNotFoundError, match=r"data\.annotations: there is no file 'x\.json'"):
        karpathy.DataSet(root="made", annotations="x.json").load(paths)


def test_image_folder_that_is_absent(paths: Paths) -> None:
    karpathy_set(paths.data / "made")
    with pytest.raises(FileNotFoundError, match=r"data\.images: 'photos' is not a folder"):
        karpathy.DataSet(root="made", images="photos").load(paths)


def test_images_that_are_nowhere(paths: Paths) -> None:
    write(paths.data / "made" / "dataset_made.json", {"images": ENTRIES})
    with pytest.raises(
        FileNotFoundError,
        match=r"'a\.png' is not in .*; 4 of 4 .*; if they are elsewhere, name the folder as data\.images",
    ):
        karpathy.DataSet(root="made").load(paths)


def test_missing_images_are_counted(paths: Paths) -> None:
    karpathy_set(paths.data / "made")
    for name in ("a.png", "t.png"):
        (paths.data / "made" / "images" / name).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"dataset_made\.json: images\[0\]: image 'a\.png' .* 2 of 4 images are missing"
    ):
        karpathy.DataSet(root="made").load(paths)
    assert not paths.cache.exists()


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname"])
def test_names_that_leave_the_folder(paths: Paths, name: str) -> None:
    karpathy_set(paths.data / "made", entries=[*ENTRIES, entry(name, "train")])
    with pytest.raises(ValueError, match=r"dataset_made\.json: images\[4\]: image .* leads out of the image folder"):
        karpathy.DataSet(root="made").load(paths)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([*ENTRIES, entry("c.png", "dev")], r"images\[4\]: 'split' is 'dev', expected train, val, test or restval"),
        (
            [*ENTRIES, entry("a.png", "test")],
            r"photos in more than one split: 1 \('a\.png' in train and 'a\.png' in test\)",
        ),
        ([*ENTRIES, entry("c.png", "train", 0)], r"images\[4\]: image 'c\.png' has no caption"),
        (ENTRIES[:2], "the split 'test' has no images"),
        ([{"split": "train", "sentences": []}], r"images\[0\]: 'filename' is None, expected text"),
        ([{"split": "train", "filename": "a.png"}], r"images\[0\]: 'sentences' is None, expected a list"),
        ([{**ENTRIES[0], "sentences": [{"tokens": []}]}], r"images\[0\]: 'raw' is None, expected text"),
        (["a.png"], r"images\[0\]: 'split' is None, expected text"),
    ],
)
def test_karpathy_mistakes(paths: Paths, entries: list[Any], message: str) -> None:
    karpathy_set(paths.data / "made", entries=entries)
    with pytest.raises(ValueError, match=rf"dataset_made\.json: {message}"):
        karpathy.DataSet(root="made").load(paths)


@pytest.mark.parametrize("content", [[], {"annotations": []}, "text"])
def test_json_that_is_not_karpathy(paths: Paths, content: object) -> None:
    write(paths.data / "made" / "dataset_made.json", content)
    with pytest.raises(ValueError, match=r"dataset_made\.json: expected an object with a list 'images'"):
        karpathy.DataSet(root="made").load(paths)


def test_file_that_is_not_json(paths: Paths) -> None:
    write(paths.data / "made" / "dataset_made.json", []).write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"dataset_made\.json: expected a JSON file"):
        karpathy.DataSet(root="made").load(paths)


def test_flat_list_without_val(paths: Paths) -> None:
    flat_set(paths.data / "f30k")
    (paths.data / "f30k" / "ann_file" / "flickr30k_val.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"flickr30k_val\.json: expected beside flickr30k_train\.json"):
        karpathy.DataSet(root="f30k").load(paths)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "expected a list of rows"),
        ([{"caption": "x"}], r"\[0\]: 'image' is None, expected text"),
        ([{"image": "a.png"}], r"\[0\]: 'caption' is None, expected text"),
        ([{"image": "a.png", "caption": [1]}], r"\[0\]: 'caption' is 1, expected text"),
        ([{"image": "a.png", "caption": []}], r"\[0\]: 'caption' is \[\], expected text"),
        ([3], r"\[0\]: 'image' is None, expected text"),
    ],
)
def test_flat_mistakes(paths: Paths, rows: object, message: str) -> None:
    flat_set(paths.data / "f30k")
    write(paths.data / "f30k" / "ann_file" / "flickr30k_train.json", rows)
    with pytest.raises(ValueError, match=rf"flickr30k_train\.json: {message}"):
        karpathy.DataSet(root="f30k").load(paths)


def test_flickr8k(flickr8k: Path) -> None:
    annotation = karpathy.DataSet(root=str(flickr8k)).annotation(flickr8k)
    splits = annotation.splits
    assert {split: len(captions) for split, captions in splits.items()} == {"train": 5996, "val": 1000, "test": 1000}
    assert {len(texts) for captions in splits.values() for texts in captions.values()} == {5}
    assert annotation.images == flickr8k / "images"


def test_folder_of_images_that_is_a_link_out_of_the_root(paths: Paths, tmp_path: Path) -> None:
    karpathy_set(paths.data / "made")
    (paths.data / "made" / "images").rename(tmp_path / "elsewhere")
    (paths.data / "made" / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        ValueError, match=r"images\[0\]: image 'a\.png' is a link that leads out of .*made.*data\.links"
    ):
        karpathy.DataSet(root="made", image_px=8).load(paths)
    for options in ({"links": "follow"}, {"images": "images"}):
        assert karpathy.DataSet(root="made", image_px=8, **options).load(paths)["train"].num_images == 2


MISSPELT = [
    ({"Images": ENTRIES}, "'Images' is not a known name, expected 'images'"),
    (
        {"images": [{**ENTRIES[0], "filePath": "x"}]},
        r"images\[0\]: 'filePath' is not a known name, expected 'filepath'",
    ),
    ({"images": [{**ENTRIES[0], "file_path": "x"}]}, r"images\[0\]: 'file_path' is not .*, expected 'filepath'"),
    ({"images": [{"Split": "train", "filename": "a"}]}, r"images\[0\]: 'Split' is not a known name, expected 'split'"),
    ({"images": [{**ENTRIES[0], "sentences": [{" raw": "x"}]}]}, r"images\[0\]: ' raw' is not .*, expected 'raw'"),
]


@pytest.mark.parametrize(("content", "message"), MISSPELT)
def test_misspelt_keys(paths: Paths, content: object, message: str) -> None:
    karpathy_set(paths.data / "made")
    write(paths.data / "made" / "dataset_made.json", content)
    with pytest.raises(ValueError, match=rf"dataset_made\.json: {message}"):
        karpathy.DataSet(root="made").load(paths)


def test_misspelt_key_of_a_flat_list(paths: Paths) -> None:
    flat_set(paths.data / "f30k")
    write(paths.data / "f30k" / "ann_file" / "flickr30k_train.json", [{"image": "a.png", "Caption": "x"}])
    with pytest.raises(ValueError, match=r"flickr30k_train\.json: \[0\]: 'Caption' is not .*, expected 'caption'"):
        karpathy.DataSet(root="f30k").load(paths)


def test_misspelt_name_of_the_annotations_is_shown(paths: Paths) -> None:
    karpathy_set(paths.data / "made").rename(paths.data / "made" / "Dataset_made.json")
    with pytest.raises(FileNotFoundError, match=r"but the JSON files are 'Dataset_made\.json'"):
        karpathy.DataSet(root="made").load(paths)


CAPTIONS = [
    ("", "is '', expected text"),
    (" \n", r"is ' \\n', expected text"),
    ("a \ud83d lamp", r"is 'a \\ud83d lamp', expected text without halves"),
    ("['a', 'b']", r"""is "\['a', 'b'\]", a list in one text, expected one caption"""),
    (["a", ""], "is '', expected text"),
    ([["a"]], r"is \['a'\], expected text"),
]


@pytest.mark.parametrize(("caption", "message"), CAPTIONS)
def test_captions_that_are_none(paths: Paths, caption: object, message: str) -> None:
    karpathy_set(paths.data / "made", entries=[*ENTRIES, {**ENTRIES[0], "sentences": [{"raw": caption}]}])
    with pytest.raises(ValueError, match=rf"dataset_made\.json: images\[4\]: 'raw' {message}"):
        karpathy.DataSet(root="made").load(paths)
    flat_set(paths.data / "f30k")
    write(paths.data / "f30k" / "ann_file" / "flickr30k_train.json", [{"image": "a.png", "caption": caption}])
    with pytest.raises(ValueError, match=rf"flickr30k_train\.json: \[0\]: 'caption' {message}"):
        karpathy.DataSet(root="f30k").load(paths)
