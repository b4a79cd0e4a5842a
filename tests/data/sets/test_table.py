from pathlib import Path

import polars
import pytest

from engine.config.components import bind
from engine.data.sets import table
from engine.io.paths import Paths
from tests.data.photos import save_photos

NAMES = [f"trip/{index}.png" for index in range(20)]
ROWS = {
    "image": [name for name in NAMES for _ in range(2)],
    "caption": [f"photo {index}, taken {time}" for index in range(20) for time in ("early", "late")],
}
SPLIT = ["train"] * 36 + ["val"] * 2 + ["test"] * 2


def photos(paths: Paths, rows: dict[str, list[object]], name: str = "captions.csv") -> None:
    folder = paths.data / "mine"
    save_photos(folder, NAMES)
    frame = polars.DataFrame(rows)
    write = {".csv": frame.write_csv, ".jsonl": frame.write_ndjson, ".parquet": frame.write_parquet}
    write[Path(name).suffix](folder / name)


@pytest.mark.parametrize("name", ["captions.csv", "captions.jsonl", "captions.parquet"])
def test_given_splits(paths: Paths, name: str) -> None:
    photos(paths, {"split": SPLIT, **ROWS, "photographer": ["me"] * 40}, name)
    data = table.DataSet(root="mine", table=name, image_px=8).load(paths)
    assert {split: (pairs.num_images, len(pairs)) for split, pairs in data.items()} == {
        "train": (18, 36),
        "val": (1, 2),
        "test": (1, 2),
    }
    assert data["val"].image_names == ("trip/18.png",)
    assert data["val"].captions == ("photo 18, taken early", "photo 18, taken late")
    assert data["train"].caption_image.tolist() == [index // 2 for index in range(36)]


def test_images_are_split_by_hash_and_never_parted(paths: Paths) -> None:
    photos(paths, ROWS)

    def names(seed: int) -> dict[str, tuple[str, ...]]:
        data = table.DataSet(root="mine", table="captions.csv", image_px=8, seed=seed).load(paths)
        return {split: pairs.image_names for split, pairs in data.items()}

    first = names(0)
    assert {split: len(chosen) for split, chosen in first.items()} == {"train": 16, "val": 2, "test": 2}
    assert sorted(name for chosen in first.values() for name in chosen) == sorted(NAMES)
    assert names(0) == first
    assert names(1) != first


def test_order_of_the_rows_does_not_change_the_split(paths: Paths) -> None:
    photos(paths, ROWS)
    photos(paths, {key: values[::-1] for key, values in ROWS.items()}, "reversed.csv")
    forward, backward = (
        table.DataSet(root="mine", table=name, image_px=8).load(paths) for name in ("captions.csv", "reversed.csv")
    )
    assert {split: set(pairs.image_names) for split, pairs in forward.items()} == {
        split: set(pairs.image_names) for split, pairs in backward.items()
    }


def test_numbers_in_a_csv_are_text(paths: Paths) -> None:
    photos(paths, {**ROWS, "caption": list(range(40))})
    assert table.DataSet(root="mine", table="captions.csv", image_px=8).load(paths)["train"].captions[0].isdigit()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"image": NAMES, "text": NAMES}, "the column 'caption' is missing; the columns there are image, text"),
        ({"file": NAMES, "caption": NAMES}, "the column 'image' is missing; the columns there are file, caption"),
        ({"image": NAMES[:2], "caption": ["x", None]}, "row 2: 'caption' is None, expected text"),
        ({"image": NAMES[:2], "caption": ["  ", "x"]}, "row 1: 'caption' is '  ', expected text"),
        ({"image": [None], "caption": ["x"]}, "row 1: 'image' is None, expected text"),
        ({"image": NAMES[:2], "caption": [1, 2]}, "row 1: 'caption' is 1, expected text"),
        (
            {"image": NAMES[:2], "caption": ["x", "y"], "split": ["train", "dev"]},
            "row 2: 'split' is 'dev', expected train, val or test",
        ),
        (
            {"image": NAMES[:2], "caption": ["x", "y"], "split": ["train", None]},
            "row 2: 'split' is None, expected text",
        ),
        ({"image": NAMES[:2], "caption": ["x", "y"], "split": ["train", "val"]}, "the split 'test' has no images"),
        (
            {"image": [NAMES[0]] * 2, "caption": ["x", "y"], "split": ["train", "val"]},
            r"image 'trip/0\.png' is in 'train' and in 'val'|the split 'test' has no images",
        ),
        (
            {"image": NAMES[:3], "caption": ["x"] * 3},
            "3 images with val_fraction 0.1 and .* leave the split 'val' empty",
        ),
        (
            {"image": ["gone.png", *NAMES], "caption": ["x"] * 21},
            r"row 1: image 'gone\.png' is not in .* 1 of 21 images",
        ),
        (
            {"image": ["../a.png", *NAMES], "caption": ["x"] * 21},
            r"row 1: image '\.\./a\.png' leads out of the image folder",
        ),
    ],
)
def test_mistakes_in_the_table(paths: Paths, rows: dict[str, list[object]], message: str) -> None:
    photos(paths, rows, "captions.jsonl")
    with pytest.raises((ValueError, FileNotFoundError), match=rf"captions\.jsonl: ({message})"):
        table.DataSet(root="mine", table="captions.jsonl", image_px=8).load(paths)


@pytest.mark.parametrize("fractions", [{"val_fraction": 0.0}, {"test_fraction": 1.0}, {"val_fraction": -0.1}])
def test_fractions_out_of_range(fractions: dict[str, float]) -> None:
    with pytest.raises(
        ValueError, match=r"^data set table: (val|test)_fraction is .*, expected a number (above|below)"
    ):
        bind("data", "table", {"root": "mine", "table": "captions.csv", **fractions})


def test_fractions_that_leave_nothing_for_train(paths: Paths) -> None:
    photos(paths, ROWS)
    with pytest.raises(ValueError, match="leave the split 'train' empty"):
        table.DataSet(root="mine", table="captions.csv", val_fraction=0.5, test_fraction=0.5).load(paths)


def test_table_that_is_absent(paths: Paths) -> None:
    save_photos(paths.data / "mine", NAMES)
    with pytest.raises(FileNotFoundError, match=r"data\.table: there is no file .*none\.csv"):
        table.DataSet(root="mine", table="none.csv").load(paths)


def test_table_whose_name_no_file_can_have(paths: Paths) -> None:
    save_photos(paths.data / "mine", NAMES)
    for name in (f"{'x' * 300}.csv", "a\0.csv"):
        with pytest.raises(FileNotFoundError, match=r"data\.table: there is no file"):
            table.DataSet(root="mine", table=name).load(paths)


def test_root_that_is_absent(paths: Paths) -> None:
    with pytest.raises(FileNotFoundError, match=r"data\.root: 'mine' is not a folder"):
        table.DataSet(root="mine", table="captions.csv").load(paths)


def test_ending_that_is_unknown(paths: Paths) -> None:
    save_photos(paths.data / "mine", ["a.xlsx"])
    with pytest.raises(ValueError, match=r"a\.xlsx ends in '\.xlsx', expected \.csv, \.txt, \.jsonl or \.parquet"):
        table.DataSet(root="mine", table="a.xlsx").load(paths)


def test_lists_of_captions_are_captions(paths: Paths) -> None:
    lists = {"image": NAMES, "caption": [[f"photo {i}", f"view {i} "] for i in range(20)], "split": SPLIT[::2]}
    for name in ("captions.jsonl", "captions.parquet"):
        photos(paths, lists, name)
        data = table.DataSet(root="mine", table=name, image_px=8).load(paths)
        assert (data["train"].num_images, len(data["train"])) == (18, 36)
        assert data["val"].captions == ("photo 18", "view 18")


def test_one_photo_spelled_in_two_ways_is_one_photo(paths: Paths) -> None:
    spelled = [name if row % 2 else f"./{name}" for row, name in enumerate(ROWS["image"])]
    photos(paths, ROWS)
    photos(paths, {**ROWS, "image": spelled}, "spelled.csv")
    plain, other = (
        table.DataSet(root="mine", table=name, image_px=8).load(paths) for name in ("captions.csv", "spelled.csv")
    )
    assert {split: pairs.image_names for split, pairs in plain.items()} == {
        split: pairs.image_names for split, pairs in other.items()
    }


def test_links_and_shared_photos_are_options(paths: Paths) -> None:
    photos(paths, {**ROWS, "split": SPLIT})
    outside = paths.data / "outside.png"
    (paths.data / "mine" / NAMES[19]).rename(outside)
    (paths.data / "mine" / NAMES[19]).symlink_to(outside)
    with pytest.raises(
        ValueError, match=r"captions\.csv: row 39: image 'trip/19\.png' is a link .*data\.links is inside"
    ):
        table.DataSet(root="mine", table="captions.csv", image_px=8).load(paths)
    outside.write_bytes((paths.data / "mine" / NAMES[18]).read_bytes())
    with pytest.raises(
        ValueError, match=r"1 \('trip/18\.png' in val and 'trip/19\.png' in test\); data\.same_photo is"
    ):
        table.DataSet(root="mine", table="captions.csv", image_px=8, links="follow").load(paths)
