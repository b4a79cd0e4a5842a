from pathlib import Path

import polars
import pytest

from engine.data.sets import imagefolder
from tests.data.photos import save_photos
from tests.data.sets import layouts
from tests.data.sets.layouts import CAPTIONS, NAMES, lines


def sizes(root: Path, **options: str) -> dict[str, int]:
    annotation = imagefolder.DataSet(root=str(root), **options).annotation(root)
    return {split: len(captions) for split, captions in annotation.splits.items()}


def test_one_table_for_all_splits(tmp_path: Path) -> None:
    names = [f"{folder}/{name}" for folder, some in layouts.SPLITS.items() for name in some]
    save_photos(tmp_path, names)
    polars.DataFrame({"file_name": names, "caption": ["a lamp"] * 12}).write_parquet(tmp_path / "metadata.parquet")
    assert sizes(tmp_path) == {"train": 8, "val": 2, "test": 2}


def test_train_and_test_alone_give_a_val(tmp_path: Path) -> None:
    layouts.metadata_csv(tmp_path)
    (tmp_path / "validation" / "metadata.csv").unlink()
    assert sizes(tmp_path) == {"train": 7, "val": 1, "test": 2}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["file_name,label", "0.png,dog"], "the column 'text' is missing; the columns there are file_name, label"),
        (["file_name,text", "0.png,"], "row 1: 'text' is None, expected text"),
        (
            ["file_name,text", "0.png,a dog, brown"],
            r"row 1 \(line 2\) has 3 values, .*would be 0\.png,\"a dog, brown\"",
        ),
    ],
)
def test_mistakes(rows: list[str], message: str, tmp_path: Path) -> None:
    save_photos(tmp_path, NAMES)
    lines(tmp_path / "metadata.csv", rows)
    with pytest.raises(ValueError, match=rf"metadata\.csv: .*{message}"):
        sizes(tmp_path)


def test_two_kinds_of_tables_and_none(tmp_path: Path) -> None:
    layouts.metadata_jsonl(tmp_path)
    lines(tmp_path / "metadata.csv", ["file_name,text", *(f"data/{name},{CAPTIONS[name][0][:5]}" for name in NAMES)])
    with pytest.raises(ValueError, match=r"\(metadata\.csv, metadata\.jsonl\); name one of them as data\.metadata"):
        sizes(tmp_path)
    assert sum(sizes(tmp_path, metadata="metadata.csv").values()) == 12
    with pytest.raises(FileNotFoundError, match=r"data\.metadata: there is no file .*m\.csv"):
        sizes(tmp_path, metadata="m.csv")
