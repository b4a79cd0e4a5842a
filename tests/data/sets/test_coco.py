import shutil
from pathlib import Path

import pytest

from engine.data.sets import coco
from tests.data.photos import save_photos
from tests.data.sets import layouts
from tests.data.sets.layouts import NAMES
from tests.data.sets.test_karpathy import write


def sizes(root: Path, **options: str) -> dict[str, int]:
    annotation = coco.DataSet(root=str(root), **options).annotation(root)
    return {split: len(captions) for split, captions in annotation.splits.items()}


def test_test_is_half_of_val_and_names_hold_the_folder(tmp_path: Path) -> None:
    layouts.coco(tmp_path, "2014")
    annotation = coco.DataSet(root=str(tmp_path)).annotation(tmp_path)
    assert list(annotation.splits["train"]) == [f"train2014/COCO_train2014_{name}" for name in NAMES[:8]]
    assert {*annotation.splits["val"], *annotation.splits["test"]} == {
        f"val2014/COCO_val2014_{name}" for name in NAMES[8:]
    }
    assert annotation.divided == "test is half of val by photo with seed 0; these are not Karpathy's splits"


def test_photos_may_lie_deeper(tmp_path: Path) -> None:
    layouts.coco(tmp_path)
    (tmp_path / "images").mkdir()
    for split in ("train2017", "val2017"):
        shutil.move(tmp_path / split, tmp_path / "images")
    assert sizes(tmp_path) == sizes(tmp_path, images="images") == {"train": 8, "val": 2, "test": 2}


def test_val_alone_is_divided_into_three(tmp_path: Path) -> None:
    layouts.coco(tmp_path)
    (tmp_path / "annotations" / "captions_train2017.json").unlink()
    (tmp_path / "train2017" / NAMES[0]).rename(tmp_path / "val2017" / "spare.png")
    annotation = coco.DataSet(root=str(tmp_path), val_fraction=0.25, test_fraction=0.25).annotation(tmp_path)
    assert [len(split) for split in annotation.splits.values()] == [2, 1, 1]
    assert "as the data have val alone" in annotation.divided


def test_one_year_is_named_where_both_are_there(tmp_path: Path) -> None:
    layouts.coco(tmp_path, "2014")
    layouts.coco(tmp_path, "2017")
    annotation = coco.DataSet(root=str(tmp_path), captions="annotations/captions_train2017.json").annotation(tmp_path)
    assert all(name.startswith("train2017/") for name in annotation.splits["train"])
    with pytest.raises(ValueError, match=r"several files of captions .*; name one of them as data\.captions"):
        sizes(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": [], "annotations": {}}, "'annotations' is {}, expected a list"),
        ({"images": [{"id": 1}], "annotations": []}, r"images\[0\]: 'file_name' is None, expected text"),
        ({"images": [{"file_name": "a.png"}], "annotations": []}, r"images\[0\]: 'id' is null, expected a number"),
        ({"images": [], "annotations": [{"image_id": 7}]}, r"annotations\[0\]: 'image_id' is 7, expected the id of an"),
        (
            {"images": [{"id": 7, "file_name": "a.png"}], "annotations": [{"image_id": 7, "caption": 3}]},
            r"annotations\[0\]: 'caption' is 3, expected text",
        ),
    ],
)
def test_mistakes(content: object, message: str, tmp_path: Path) -> None:
    save_photos(tmp_path, ["a.png"])
    write(tmp_path / "captions.json", content)
    with pytest.raises(ValueError, match=rf"captions\.json: {message}"):
        sizes(tmp_path, captions="captions.json")
