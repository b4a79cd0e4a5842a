"""Lists of photos and captions are written once and read as they were, on disks and in object stores."""

from pathlib import Path

import numpy as np
import pytest

from engine.data.listed import read_listed, write_listed
from engine.data.sets import karpathy
from engine.io.paths import Paths
from engine.io.storage import location
from tests.data.sets.test_karpathy import ENTRIES, entry, karpathy_set

DATA = karpathy.DataSet(root="made", image_px=8)


@pytest.mark.parametrize("place", ["disk", "object store"])
def test_a_list_is_read_as_it_was_written_without_annotation_and_photos(
    place: str, paths: Paths, tmp_path: Path
) -> None:
    karpathy_set(paths.data / "made", entries=[*ENTRIES[:3], entry("b.png", "train", sentences=[{"raw": "ein Fuß"}])])
    folder = tmp_path / "there" if place == "disk" else location(f"memory://{tmp_path.name}/there")
    splits = DATA.listed(paths)
    key = write_listed(splits, folder)
    assert write_listed(DATA.listed(paths), folder) == key
    assert [file.name for file in folder.iterdir()] == [f"{key}.json"]
    assert not (paths.cache / "images").exists(), "nothing was decoded"
    wanted = DATA.load(paths)
    (paths.data / "made").rename(paths.data / "gone")
    found = {split: one.dataset(one.images(split, paths.cache)) for split, one in read_listed(folder, key).items()}
    assert list(found) == list(wanted)
    for split, pairs in wanted.items():
        assert isinstance(pairs.images, np.memmap)
        assert (found[split].image_names, found[split].captions) == (pairs.image_names, pairs.captions)
        np.testing.assert_array_equal(found[split].images[:], pairs.images)
    with pytest.raises(FileNotFoundError):
        read_listed(folder, "other")


def test_other_photos_captions_or_folders_have_another_key(paths: Paths, tmp_path: Path) -> None:
    karpathy_set(paths.data / "made")
    keys = [write_listed(DATA.listed(paths), tmp_path / "there")]
    (paths.data / "made" / "images" / "b.png").write_bytes(b"another photo")
    keys.append(write_listed(DATA.listed(paths), tmp_path / "there"))
    karpathy_set(paths.data / "made", entries=[*ENTRIES[:3], entry("b.png", "restval", 4)])
    keys.append(write_listed(DATA.listed(paths), tmp_path / "there"))
    (paths.data / "made" / "images").rename(paths.data / "made" / "photos")
    keys.append(write_listed(DATA.listed(paths), tmp_path / "there"))
    assert len(set(keys)) == 4
