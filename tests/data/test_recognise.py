"""What a folder is taken for, by its content: each layout that people have, none, and two at once."""

import shutil
from pathlib import Path

import pytest

from engine.config.components import bind
from engine.data.recognise import recognise
from engine.io.paths import Paths
from tests.data.photos import save_photos
from tests.data.sets import layouts
from tests.data.sets.layouts import CAPTIONS, LAYOUTS, NAMES, SPLITS, Layout, lines

OWN = {layouts.karpathy, layouts.flat, layouts.flickr8k, layouts.metadata_csv}
"""Layouts with splits of their own."""


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_each_layout_is_recognised_and_read(layout: Layout, paths: Paths) -> None:
    root = paths.data / "some where"
    layout(root)
    name, settings = LAYOUTS[layout]
    found = recognise(root)
    assert (found.name, found.settings) == (name, settings)
    data = bind("data", name, {"root": "some where", "image_px": 8, **settings}).load(paths)
    assert {split: pairs.num_images for split, pairs in data.items()} == found.photos
    assert {split: len(pairs) for split, pairs in data.items()} == found.captions
    names = {split: {Path(name).name for name in pairs.image_names} for split, pairs in data.items()}
    assert sorted(name for split in names.values() for name in split) == sorted(NAMES)
    assert bool(found.divided) == (layout not in OWN)
    assert layout not in OWN or names == {split: set(chosen) for split, chosen in SPLITS.items()}
    if layout not in (layouts.karpathy, layouts.flat):
        texts = sorted(text for pairs in data.values() for text in pairs.captions)
        assert texts == sorted(text for captions in CAPTIONS.values() for text in captions)
    auto = bind("data", "auto", {"root": "some where", "image_px": 8})
    assert {split: tuple(size) for split, size in auto.sizes(paths).items()} == {
        split: (pairs.num_images, len(pairs)) for split, pairs in data.items()
    }


def test_the_line_says_what_it_is_how_many_and_what_is_left_out(tmp_path: Path) -> None:
    layouts.flickr8k(tmp_path)
    save_photos(tmp_path / "Flicker8k_Dataset", ["spare.png"])
    assert recognise(tmp_path).line() == (
        f"{tmp_path} is data.name=flickr data.captions=Flickr8k_text/Flickr8k.token.txt: 12 photos, 24 captions "
        "(train 8, val 2, test 2); left out: Flickr8k.lemma.token.txt (captions of lemmas); 1 photo with captions but "
        "in no split (2258277193_586949ec62.jpg.1); 1 photo without captions (spare.png)"
    )


def test_listed_photos_that_are_absent_are_left_out_and_named(tmp_path: Path, paths: Paths) -> None:
    layouts.captions_txt(tmp_path)
    for name in NAMES[:2]:
        (tmp_path / "Images" / name).unlink()
    found = recognise(tmp_path)
    assert found.settings == {"table": "captions.txt", "missing": "leave_out"}
    assert found.left_out == ("2 photos that are listed but not there (0.png, 1.png)",)
    data = bind("data", found.name, {"root": str(tmp_path), "image_px": 8, **found.settings}).load(paths)
    assert sum(pairs.num_images for pairs in data.values()) == 10
    with pytest.raises(FileNotFoundError, match=r"2 of 12 images are missing"):
        recognise(tmp_path, missing="refuse")


def test_photos_that_are_all_absent_are_no_data(tmp_path: Path) -> None:
    layouts.results_token(tmp_path)
    shutil.rmtree(tmp_path / "flickr30k-images")
    with pytest.raises(FileNotFoundError, match=r"results_20130124\.token: line 1: image '0\.png' .* 12 of 12 images"):
        recognise(tmp_path)


def test_a_folder_that_is_no_layout(tmp_path: Path) -> None:
    save_photos(tmp_path, NAMES)
    lines(tmp_path / "labels.csv", ["file,label", "0.png,dog"])
    with pytest.raises(
        ValueError, match=r"none of the known layouts \(coco, flickr, .* 12 photos and .* labels\.csv \('file,label'\)"
    ):
        recognise(tmp_path)


def test_photos_alone_are_no_layout(tmp_path: Path) -> None:
    save_photos(tmp_path / "photos", NAMES)
    with pytest.raises(ValueError, match="in it are 12 photos and no file of captions"):
        recognise(tmp_path)


TWO = [
    (layouts.karpathy, layouts.captions_txt, "data.name=karpathy .*, data.name=table data.table=captions.txt"),
    (layouts.flickr8k, layouts.results_token, ".*_20130124.token, .*data.captions=Flickr8k_text/.*"),
    (layouts.pairs, layouts.metadata_jsonl, "data.name=imagefolder data.metadata=metadata.jsonl, data.name=pairs"),
]


@pytest.mark.parametrize(("one", "other", "named"), TWO)
def test_two_layouts_at_once(one: Layout, other: Layout, named: str, tmp_path: Path) -> None:
    one(tmp_path)
    other(tmp_path)
    with pytest.raises(
        ValueError,
        match=rf"in 2 ways, expected one; name one of them: {named} \(for new, .*\)\.$",
    ):
        recognise(tmp_path)


def test_both_years_of_coco_are_two(tmp_path: Path) -> None:
    layouts.coco(tmp_path, "2014")
    layouts.coco(tmp_path, "2017")
    with pytest.raises(ValueError, match=r"captions_train2014\.json, .*captions_train2017\.json"):
        recognise(tmp_path)


def test_a_named_file_of_captions_decides_and_may_lie_elsewhere(tmp_path: Path, paths: Paths) -> None:
    layouts.karpathy(tmp_path / "photos")
    lines(tmp_path / "mine.csv", ["image,caption", *(f"{name},a lamp" for name in NAMES)])
    found = recognise(tmp_path / "photos", tmp_path / "mine.csv")
    assert (found.name, found.settings) == ("table", {"table": str(tmp_path / "mine.csv")})
    options = {"root": str(tmp_path / "photos"), "captions": str(tmp_path / "mine.csv"), "image_px": 8}
    assert bind("data", "auto", options).load(paths)["train"].captions[0] == "a lamp"


@pytest.mark.parametrize(("root", "captions", "key"), [("gone", None, "root"), (".", "gone.csv", "captions")])
def test_what_is_not_there(root: str, captions: str | None, key: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"data\.{key}: .*gone"):
        recognise(tmp_path / root, captions and tmp_path / captions)


@pytest.mark.parametrize("header", ["Image,Caption", "image;caption", '"image", "caption"'])
def test_a_table_that_is_nearly_right_is_read_as_one(header: str, tmp_path: Path) -> None:
    save_photos(tmp_path, NAMES)
    lines(tmp_path / "captions.csv", [header, *(f"{name},a lamp" for name in NAMES)])
    if header.startswith('"'):
        assert recognise(tmp_path).name == "table"
        return
    with pytest.raises(ValueError, match=r"captions\.csv: .*expected"):
        recognise(tmp_path)


def test_too_few_photos(tmp_path: Path) -> None:
    save_photos(tmp_path, NAMES[:3])
    lines(tmp_path / "captions.csv", ["image,caption", *(f"{name},a lamp" for name in NAMES[:3])])
    with pytest.raises(ValueError, match=r"captions\.csv: 3 images with .* leave the split 'val' empty"):
        recognise(tmp_path)
