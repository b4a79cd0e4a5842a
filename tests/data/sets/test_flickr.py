from pathlib import Path

import pytest

from engine.data.sets import flickr
from engine.io.paths import Paths
from tests.data.photos import save_photos
from tests.data.sets import layouts
from tests.data.sets.layouts import NAMES, lines, tokens


def test_a_row_without_its_second_bar_is_mended_and_told(tmp_path: Path) -> None:
    layouts.results_csv(tmp_path)
    annotation = flickr.DataSet(root=str(tmp_path)).annotation(tmp_path)
    texts = {text for split in annotation.splits.values() for text in split.get("1.png", ())}
    assert annotation.left_out == ("the second '|' is not there in 1 row (line 5), mended",)
    assert texts == {"A photo of 1.png , early .", "A photo of 1.png , late ."}


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("a.token", [*tokens(), "3.png a dog"], r"line 25 is '3\.png a dog', expected photo#number, a tab and a capt"),
        ("results.csv", ["image_name| comment_number| comment", "3.png a dog"], r"line 2 is .*, expected photo\| numb"),
        ("a.token", [*tokens(), f"{'x' * 300}#0\tdog"], r"line 25: 'photo' is .*, expected the name of a file"),
    ],
)
def test_rows_that_cannot_be_read(name: str, rows: list[str], message: str, tmp_path: Path) -> None:
    save_photos(tmp_path, NAMES)
    lines(tmp_path / name, rows)
    with pytest.raises(ValueError, match=rf"{name}: {message}"):
        flickr.DataSet(root=str(tmp_path)).annotation(tmp_path)


def test_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.token").write_bytes("a.jpg#0\tein Käfer\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.token: .*line 1 is not in UTF-8; in Latin-1 it is .*Käfer"):
        flickr.DataSet(root=str(tmp_path)).annotation(tmp_path)


def test_captions_with_commas_quotes_and_bars(tmp_path: Path) -> None:
    save_photos(tmp_path, NAMES)
    rows = [f'{name},0,"a ""lamp"" , | and 2"' for name in NAMES]
    lines(tmp_path / "captions.txt", ["image_name,comment_number,comment", *rows])
    annotation = flickr.DataSet(root=str(tmp_path)).annotation(tmp_path)
    assert {text for split in annotation.splits.values() for texts in split.values() for text in texts} == {
        'a "lamp" , | and 2'
    }


def test_blank_captions_are_left_out_and_counted(tmp_path: Path) -> None:
    save_photos(tmp_path, NAMES)
    lines(tmp_path / "a.token", [*tokens(), "3.png#2\t "])
    annotation = flickr.DataSet(root=str(tmp_path)).annotation(tmp_path)
    assert annotation.left_out == ("1 caption that is blank (3.png, line 25)",)


def test_lists_without_suffixes_with_strange_names_and_without_val(tmp_path: Path) -> None:
    save_photos(tmp_path / "images", ["1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"])
    lines(tmp_path / "results.token", [f"{number}.jpg#0\ta lamp" for number in range(1, 6)])
    lines(tmp_path / "splits" / "train.txt", ["1", "2", "3", "9"])
    lines(tmp_path / "splits" / "test.txt", ["5"])
    annotation = flickr.DataSet(root=str(tmp_path), val_fraction=0.3).annotation(tmp_path)
    assert {split: len(captions) for split, captions in annotation.splits.items()} == {"train": 2, "val": 1, "test": 1}
    assert annotation.left_out == ("1 name in the lists of splits that no caption has (9.jpg)",)
    assert annotation.unlisted == ("4.jpg",)
    assert annotation.divided == "val is taken from train by photo with seed 0"


def test_a_photo_in_two_lists_is_refused(tmp_path: Path, paths: Paths) -> None:
    layouts.flickr8k(tmp_path)
    lines(tmp_path / "Flickr8k_text" / "Flickr_8k.testImages.txt", [*NAMES[10:], NAMES[0]])
    with pytest.raises(ValueError, match=r"more than one split: 1 \('0\.png' in train and '0\.png' in test\)"):
        flickr.DataSet(root=str(tmp_path)).sizes(paths)


def test_none_or_several_files_of_captions(tmp_path: Path) -> None:
    save_photos(tmp_path, NAMES)
    with pytest.raises(FileNotFoundError, match=r"no file in it .*data\.captions names one"):
        flickr.DataSet(root=str(tmp_path)).annotation(tmp_path)
    lines(tmp_path / "a.token", tokens())
    lines(tmp_path / "b.token", tokens())
    with pytest.raises(ValueError, match=r"several files of captions \(a\.token, b\.token\); name .* data\.captions"):
        flickr.DataSet(root=str(tmp_path)).annotation(tmp_path)
    assert flickr.DataSet(root=str(tmp_path), captions="b.token").annotation(tmp_path).path.name == "b.token"
    with pytest.raises(FileNotFoundError, match=r"data\.captions: there is no file .*c\.token"):
        flickr.DataSet(root=str(tmp_path), captions="c.token").annotation(tmp_path)
