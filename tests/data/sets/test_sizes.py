"""How large a data set is, told without reading an image, is how large it is when it is loaded."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest

from engine.config.components import find, names
from engine.data.sets import karpathy, shapes, table
from engine.io.paths import Paths
from tests.data.photos import save_photos
from tests.data.sets.test_karpathy import karpathy_set


@pytest.mark.parametrize("name", names("data"))
def test_sizes_takes_the_options_of_load(name: str) -> None:
    load = find("data", name)
    sizes = import_module(load.__module__).sizes
    assert inspect.signature(sizes).parameters == inspect.signature(load).parameters


def loaded(module: object, paths: Paths, **options: object) -> dict[str, tuple[int, int]]:
    return {split: (pairs.num_images, len(pairs)) for split, pairs in module.load(paths, **options).items()}


def test_of_shapes(paths: Paths) -> None:
    options = {"image_px": 8, "train_images": 5, "val_images": 3, "test_images": 2}
    assert shapes.sizes(paths, **options) == loaded(shapes, paths, **options)


@pytest.mark.parametrize("restval", [True, False])
def test_of_karpathy(paths: Paths, restval: bool) -> None:
    karpathy_set(paths.data / "made")
    told = karpathy.sizes(paths, root="made", restval=restval)
    assert told == loaded(karpathy, paths, root="made", image_px=8, restval=restval)


def test_of_a_table(paths: Paths) -> None:
    photos = [f"{index}.png" for index in range(10)]
    save_photos(paths.data / "own", photos)
    lines = ["image,caption", *(f"{name},one" for name in photos), "3.png,two"]
    Path(paths.data / "own" / "captions.csv").write_text("\n".join(lines), encoding="utf-8")
    options = {"root": "own", "table": "captions.csv", "val_fraction": 0.3, "test_fraction": 0.2}
    assert table.sizes(paths, **options) == loaded(table, paths, **options, image_px=8)


def test_of_data_that_are_not_here(paths: Paths) -> None:
    with pytest.raises(FileNotFoundError, match="is VLDD_DATA set"):
        karpathy.sizes(paths, root="nowhere")
