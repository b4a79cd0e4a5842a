"""Photos that several splits share, under whatever name, and photos that cannot be decoded."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.data.sets import karpathy, table
from engine.io.paths import Paths
from tests.data.photos import save_photos
from tests.data.sets.test_karpathy import entry, karpathy_set

NAMES = [f"{number}.png" for number in range(6)]
SPLIT = dict(zip(NAMES, ["train"] * 3 + ["val", "test", "test"], strict=True))


def photos(paths: Paths, **more: str) -> None:
    """Write six photos, and a table with a row for each and for ``more`` names with their splits."""
    save_photos(paths.data / "mine", NAMES)
    lines = [f"{name},of {name},{split}" for name, split in {**SPLIT, **more}.items()]
    (paths.data / "mine" / "t.csv").write_text("\n".join(["image,caption,split", *lines]))


def loaded(paths: Paths, **options: str) -> dict[str, dict[str, list[str]]]:
    """Return the captions of each photo of each split."""
    data = table.DataSet(root="mine", table="t.csv", image_px=8, **options).load(paths)
    return {
        split: {
            name: [text for text, image in zip(pairs.captions, pairs.caption_image, strict=True) if image == index]
            for index, name in enumerate(pairs.image_names)
        }
        for split, pairs in data.items()
    }


COPIES: list[Callable[[Path, Path], object]] = [
    lambda file, copy: copy.symlink_to(file),
    lambda file, copy: copy.hardlink_to(file),
    lambda file, copy: shutil.copyfile(file, copy),
]


@pytest.mark.parametrize("copy", COPIES, ids=["symbolic link", "hard link", "copy"])
def test_one_photo_under_two_names_is_refused(paths: Paths, copy: Callable[[Path, Path], object]) -> None:
    photos(paths, **{"x.png": "test"})
    copy(paths.data / "mine" / "1.png", paths.data / "mine" / "x.png")
    with pytest.raises(
        ValueError, match=r"t\.csv: photos .*: 1 \('1\.png' in train and 'x\.png' in test\); data\.same_photo"
    ):
        loaded(paths)
    assert not paths.cache.exists()


def test_one_photo_in_two_splits_by_spelling_is_refused(paths: Paths) -> None:
    photos(paths, **{"./1.png": "test", ".//2.png": "val"})
    with pytest.raises(
        ValueError, match=r"2 \('1\.png' in train and '1\.png' in test, '2\.png' in train and '2\.png' in val\)"
    ):
        loaded(paths)


def test_names_in_two_splits_are_found_without_reading_a_photo(paths: Paths) -> None:
    photos(paths, **{"./1.png": "test"})
    shutil.move(paths.data / "mine" / "1.png", paths.data / "gone.png")
    with pytest.raises(ValueError, match=r"1 \('1\.png' in train and '1\.png' in test\)"):
        table.DataSet(root="mine", table="t.csv").sizes(paths)
    assert table.DataSet(root="mine", table="t.csv", same_photo="first").sizes(paths)["test"] == (2, 2)


def test_the_first_five_of_many_are_named(paths: Paths) -> None:
    photos(paths, **{f"./{name}": "val" if split == "test" else "test" for name, split in SPLIT.items()})
    with pytest.raises(ValueError, match=r"one split: 6 \('0\.png' in train .* and 1 more\); data"):
        loaded(paths)


def test_shared_photos_move_with_their_captions_to_the_first_or_the_last_split(paths: Paths) -> None:
    photos(paths, **{"x.png": "test", "y.png": "val"})
    for copy in ("x.png", "y.png"):
        shutil.copyfile(paths.data / "mine" / "1.png", paths.data / "mine" / copy)
    first = loaded(paths, same_photo="first")
    assert first["train"] == {
        "0.png": ["of 0.png"],
        "1.png": ["of 1.png", "of y.png", "of x.png"],
        "2.png": ["of 2.png"],
    }
    assert (list(first["val"]), list(first["test"])) == (["3.png"], ["4.png", "5.png"])
    last = loaded(paths, same_photo="last")
    assert (list(last["train"]), list(last["val"])) == (["0.png", "2.png"], ["3.png"])
    assert last["test"] == {
        "4.png": ["of 4.png"], "5.png": ["of 5.png"], "x.png": ["of x.png", "of 1.png", "of y.png"]
    }  # fmt: skip


def test_a_split_that_loses_all_photos(paths: Paths) -> None:
    photos(paths, **{"./3.png": "train"})
    with pytest.raises(ValueError, match=r"data\.same_photo is first, which leaves 'val' no images"):
        loaded(paths, same_photo="first")


def test_copies_inside_of_a_split_stay(paths: Paths) -> None:
    photos(paths, **{"x.png": "train"})
    shutil.copyfile(paths.data / "mine" / "1.png", paths.data / "mine" / "x.png")
    assert list(loaded(paths)["train"]) == ["0.png", "1.png", "2.png", "x.png"]


def test_karpathy_refuses_and_moves_shared_photos_too(paths: Paths) -> None:
    split = {"a.png": "train", "b.png": "train", "v.png": "val", "t.png": "test"}
    karpathy_set(paths.data / "made", entries=[entry(name, s) for name, s in {**split, "x.png": "test"}.items()])
    os.link(paths.data / "made" / "images" / "b.png", paths.data / "made" / "images" / "x.png")
    with pytest.raises(
        ValueError, match=r"dataset_made\.json: photos in .*: 1 \('b\.png' in train and 'x\.png' in test\)"
    ):
        karpathy.DataSet(root="made", image_px=8).load(paths)
    moved = karpathy.DataSet(root="made", image_px=8, same_photo="last").load(paths)
    assert (moved["train"].image_names, moved["test"].image_names) == (("a.png",), ("t.png", "x.png"))


def test_broken_photos_of_all_splits_are_told_at_once(paths: Paths) -> None:
    photos(paths)
    for name in ("0.png", "3.png", "5.png"):
        (paths.data / "mine" / name).write_bytes(f"broken {name}".encode())
    with pytest.raises(ValueError, match=r"^3 of 6 images cannot be decoded: .*0\.png \(.*3\.png \(.*5\.png \("):
        loaded(paths)
