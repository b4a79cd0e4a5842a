"""Which files of an annotation are read: below the folders that the user named, by links only where allowed."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.data.locate import Links, locate_images
from engine.data.records import Annotation
from tests.data.photos import save_photo, save_photos


def located(
    root: Path, names: Sequence[str], *, links: Links = "inside", named: Sequence[Path] = (), caption: str = "a lamp"
) -> list[Path]:
    rows = {name: f"row {number}" for number, name in enumerate(names, start=1)}
    annotation = Annotation(Path("captions.csv"), {"train": {name: [caption] for name in names}}, rows)
    return list(locate_images(annotation, names, root, named=named or [root], links=links).values())


def test_missing_images_are_counted_and_the_first_five_named(tmp_path: Path) -> None:
    save_photos(tmp_path, ["a.png"])
    with pytest.raises(
        FileNotFoundError, match=r"^captions\.csv: row 2: image 'b\.png' is not in .*; 1 of 2 images are missing\.$"
    ):
        located(tmp_path, ["a.png", "b.png"])
    names = [f"{number}.png" for number in range(7)]
    with pytest.raises(FileNotFoundError, match=r"7 of 8 images are missing \('0\.png', .*'4\.png' and 2 more\)\.$"):
        located(tmp_path, ["a.png", *names])


def test_columns_that_are_mixed_up_are_noticed(tmp_path: Path) -> None:
    save_photo(tmp_path / "a.png", 0)
    with pytest.raises(FileNotFoundError, match=r"row 1: image 'a lamp' is not in .*, but its caption is; 1 of 1"):
        located(tmp_path, ["a lamp"], caption="a.png")


@pytest.mark.parametrize("name", ["../out.png", "below/../../out.png", "linked/../../out.png", "ABSOLUTE"])
@pytest.mark.parametrize("links", ["inside", "follow"])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str, links: Links) -> None:
    root, outside = tmp_path / "root", tmp_path / "rootless"
    outside_file = save_photo(outside / "out.png", 0)
    (root / "below").mkdir(parents=True)
    (root / "linked").symlink_to(outside)
    name = str(outside_file) if name == "ABSOLUTE" else name
    with pytest.raises(ValueError, match=r"captions\.csv: row 1: image .* leads out of the image folder"):
        located(root, [name], links=links)


def linked(tmp_path: Path) -> tuple[Path, list[str]]:
    """Return a folder, and the names of photos in it that lead out of it: below a link, and links themselves."""
    root, disk = tmp_path / "root", tmp_path / "disk"
    file = save_photo(disk / "train2014" / "a.png", 0)
    root.mkdir()
    (root / "train2014").symlink_to(disk / "train2014")
    (root / "b.png").symlink_to(file)
    return root, ["train2014/a.png", "b.png"]


def test_links_that_lead_out_are_refused_and_the_key_is_named(tmp_path: Path) -> None:
    root, names = linked(tmp_path)
    for chosen in (names, names[:1], names[1:]):
        message = (
            rf"row 1: image '{chosen[0]}' is a link that leads out of .*root to .*disk/train2014/a\.png.*data\.links"
        )
        with pytest.raises(ValueError, match=message):
            located(root, chosen)


def test_links_that_lead_out_are_followed_where_this_is_meant(tmp_path: Path) -> None:
    root, names = linked(tmp_path)
    assert located(root, names, links="follow") == [root / name for name in names]
    assert located(root, names, named=[root, tmp_path / "disk"]) == [root / name for name in names]


def test_links_inside_the_folder_are_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    save_photo(root / "blobs" / "0123", 0)
    (root / "images").symlink_to("blobs")
    (root / "a.png").symlink_to(Path("images") / "0123")
    names = ["a.png", "images/0123"]
    assert located(root, names) == [root / name for name in names]


def test_folder_that_is_a_link_is_fine(tmp_path: Path) -> None:
    save_photo(tmp_path / "disk" / "a.png", 0)
    (tmp_path / "root").symlink_to(tmp_path / "disk")
    assert located(tmp_path / "root", ["a.png"]) == [tmp_path / "root" / "a.png"]
