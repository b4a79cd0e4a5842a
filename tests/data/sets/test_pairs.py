from pathlib import Path

import pytest

from engine.data.sets import pairs
from tests.data.photos import save_photos
from tests.data.sets.layouts import NAMES, lines


def pair_folder(root: Path, folders: dict[str, list[str]]) -> Path:
    for folder, names in folders.items():
        save_photos(root / folder, names)
        for name in names:
            lines((root / folder / name).with_suffix(".txt"), [f"a {name}", "", " late "])
    return root


def test_each_line_is_a_caption_and_folders_are_splits(tmp_path: Path) -> None:
    root = pair_folder(tmp_path, {"train/00": NAMES[:6], "Valid": NAMES[6:8], "test": NAMES[8:]})
    annotation = pairs.DataSet(root=str(root)).annotation(root)
    assert annotation.splits["train"]["train/00/3.png"] == ["a 3.png", "late"]
    assert {split: len(names) for split, names in annotation.splits.items()} == {"train": 6, "val": 2, "test": 4}


def test_what_has_no_partner_and_blank_texts_are_left_out(tmp_path: Path) -> None:
    root = pair_folder(tmp_path, {".": NAMES})
    (root / "0.png").unlink()
    (root / "1.txt").write_text("\n")
    annotation = pairs.DataSet(root=str(root)).annotation(root)
    assert annotation.left_out == ("1 text without a photo (0.txt)", "1 caption that is blank (1.png, 1.txt)")
    assert sum(map(len, annotation.splits.values())) == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda root: save_photos(root, ["a.png"]) and lines(root / "a.txt", ["a"]),
            r"1 photo \(a\.png\) in no folder",
        ),
        (lambda root: (root / "train" / "0.txt").write_bytes(b"K\xe4fer"), r"train/0\.txt: .*line 1 is not in UTF-8"),
        (lambda root: lines(root / "train" / "0.txt", ["['a', 'b']"]), r"0\.txt: 'caption' is .*, a list in one text"),
    ],
)
def test_mistakes(change: object, message: str, tmp_path: Path) -> None:
    root = pair_folder(tmp_path, {"train": NAMES[:8], "val": NAMES[8:10], "test": NAMES[10:]})
    assert callable(change)
    change(root)
    with pytest.raises(ValueError, match=message):
        pairs.DataSet(root=str(root)).annotation(root)


def test_photos_without_texts(tmp_path: Path) -> None:
    save_photos(tmp_path, NAMES)
    with pytest.raises(FileNotFoundError, match="expected photos with texts of the same name"):
        pairs.DataSet(root=str(tmp_path)).annotation(tmp_path)
