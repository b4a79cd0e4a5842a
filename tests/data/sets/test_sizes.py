"""The sizes of a data set, which are read without an image, are those of the loaded data set."""

from pathlib import Path

import pytest

from engine.build import DataSet
from engine.config.components import find, names
from engine.data.sets import karpathy, shapes, table
from engine.io.paths import Paths
from tests.data.photos import save_photos
from tests.data.sets.test_karpathy import karpathy_set


@pytest.mark.parametrize("name", names("data"))
def test_every_data_set_loads_and_has_sizes(name: str) -> None:
    assert issubclass(find("data", name), DataSet)


def loaded(data: DataSet, paths: Paths) -> dict[str, tuple[int, int]]:
    return {split: (pairs.num_images, len(pairs)) for split, pairs in data.load(paths).items()}


def test_of_shapes(paths: Paths) -> None:
    data = shapes.DataSet(image_px=8, train_images=5, val_images=3, test_images=2)
    assert data.sizes(paths) == loaded(data, paths)


@pytest.mark.parametrize("restval", [True, False])
def test_of_karpathy(paths: Paths, restval: bool) -> None:
    karpathy_set(paths.data / "made")
    data = karpathy.DataSet(root="made", image_px=8, restval=restval)
    assert data.sizes(paths) == loaded(data, paths)


def test_of_a_table(paths: Paths) -> None:
    photos = [f"{index}.png" for index in range(10)]
    save_photos(paths.data / "own", photos)
    lines = ["image,caption", *(f"{name},one" for name in photos), "3.png,two"]
    Path(paths.data / "own" / "captions.csv").write_text("\n".join(lines), encoding="utf-8")
    data = table.DataSet(root="own", table="captions.csv", image_px=8, val_fraction=0.3, test_fraction=0.2)
    assert data.sizes(paths) == loaded(data, paths)


def test_of_data_that_are_not_here(paths: Paths) -> None:
    with pytest.raises(FileNotFoundError, match="is VLDD_DATA set"):
        karpathy.DataSet(root="nowhere").sizes(paths)
