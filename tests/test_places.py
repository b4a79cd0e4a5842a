"""Where relative names are looked up."""

from pathlib import Path

import pytest

from engine.places import Places, default_places


def test_relative_data_lie_below_the_data_folder_and_absolute_ones_where_they_are(places: Places) -> None:
    assert places.data_path("flickr8k/images") == places.data / "flickr8k" / "images"
    assert places.data_path("/elsewhere/coco") == Path("/elsewhere/coco")


def test_a_home_is_expanded(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places.data_path("~/photos") == tmp_path / "photos"
    (tmp_path / "net.safetensors").touch()
    assert places.weights_path("~/net.safetensors") == tmp_path / "net.safetensors"


def test_weights_are_found_by_the_last_part_of_their_name(places: Places) -> None:
    assert places.weights_path("net.safetensors") is None
    folder = places.weights / "all-MiniLM-L6-v2"
    folder.mkdir(parents=True)
    (places.weights / "net.safetensors").touch()
    assert places.weights_path("sentence-transformers/all-MiniLM-L6-v2") == folder
    assert places.weights_path("net.safetensors") == places.weights / "net.safetensors"
    assert places.weights_path("sentence-transformers/other") is None


def test_an_absolute_path_to_weights_stands_for_itself(places: Places, tmp_path: Path) -> None:
    places.weights.mkdir()
    (places.weights / "net.safetensors").touch()
    (tmp_path / "elsewhere.safetensors").touch()
    assert places.weights_path(str(tmp_path / "elsewhere.safetensors")) == tmp_path / "elsewhere.safetensors"
    assert places.weights_path("/no/such/folder/net.safetensors") is None


def test_defaults_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "WEIGHTS", "CACHE"):
        monkeypatch.delenv(f"VLDD_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    here = Path.cwd()
    assert default_places(Path("runs")) == Places(here / "data", here / "weights", here / "runs" / "cache")


def test_variables_win_over_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "WEIGHTS", "CACHE"):
        monkeypatch.setenv(f"VLDD_{name}", f"below/{name.lower()}")
    monkeypatch.chdir(tmp_path)
    below = Path.cwd() / "below"
    assert default_places(Path("/runs")) == Places(below / "data", below / "weights", below / "cache")
