"""How large a data set is, told without reading an image, is how large it is when it is loaded."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest

from engine.components import find, names
from engine.data.sets import karpathy, shapes, table
from engine.places import Places
from tests.data.photos import save_photos
from tests.data.sets.test_karpathy import karpathy_set


@pytest.mark.parametrize("name", names("data"))
def test_sizes_takes_the_options_of_load(name: str) -> None:
    load = find("data", name)
    sizes = import_module(load.__module__).sizes
    assert inspect.signature(sizes).parameters == inspect.signature(load).parameters


def loaded(module: object, places: Places, **options: object) -> dict[str, tuple[int, int]]:
    return {split: (pairs.num_images, len(pairs)) for split, pairs in module.load(places, **options).items()}


def test_of_shapes(places: Places) -> None:
    options = {"image_px": 8, "train_images": 5, "val_images": 3, "test_images": 2}
    assert shapes.sizes(places, **options) == loaded(shapes, places, **options)


@pytest.mark.parametrize("restval", [True, False])
def test_of_karpathy(places: Places, restval: bool) -> None:
    karpathy_set(places.data / "made")
    told = karpathy.sizes(places, root="made", restval=restval)
    assert told == loaded(karpathy, places, root="made", image_px=8, restval=restval)


def test_of_a_table(places: Places) -> None:
    photos = [f"{index}.png" for index in range(10)]
    save_photos(places.data / "own", photos)
    lines = ["image,caption", *(f"{name},one" for name in photos), "3.png,two"]
    Path(places.data / "own" / "captions.csv").write_text("\n".join(lines), encoding="utf-8")
    options = {"root": "own", "table": "captions.csv", "val_fraction": 0.3, "test_fraction": 0.2}
    assert table.sizes(places, **options) == loaded(table, places, **options, image_px=8)


def test_of_data_that_are_not_here(places: Places) -> None:
    with pytest.raises(FileNotFoundError, match="is VLDD_DATA set"):
        karpathy.sizes(places, root="nowhere")
