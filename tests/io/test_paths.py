"""Where relative names are looked up."""

from pathlib import Path

import pytest

from engine.data.folder import find_root
from engine.io.paths import Paths, default_paths


def test_relative_data_lie_below_the_data_folder_and_absolute_ones_where_they_are(paths: Paths) -> None:
    assert paths.data_path("flickr8k/images") == paths.data / "flickr8k" / "images"
    assert paths.data_path("/elsewhere/coco") == Path("/elsewhere/coco")


def test_a_home_is_expanded(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.data_path("~/photos") == tmp_path / "photos"
    (tmp_path / "net.safetensors").touch()
    assert paths.weights_path("~/net.safetensors") == tmp_path / "net.safetensors"


def test_weights_are_found_by_the_last_part_of_their_name(paths: Paths) -> None:
    assert paths.weights_path("net.safetensors") is None
    folder = paths.weights / "all-MiniLM-L6-v2"
    folder.mkdir(parents=True)
    (paths.weights / "net.safetensors").touch()
    assert paths.weights_path("sentence-transformers/all-MiniLM-L6-v2") == folder
    assert paths.weights_path("net.safetensors") == paths.weights / "net.safetensors"
    assert paths.weights_path("sentence-transformers/other") is None


def test_an_absolute_path_to_weights_stands_for_itself(paths: Paths, tmp_path: Path) -> None:
    paths.weights.mkdir()
    (paths.weights / "net.safetensors").touch()
    (tmp_path / "elsewhere.safetensors").touch()
    assert paths.weights_path(str(tmp_path / "elsewhere.safetensors")) == tmp_path / "elsewhere.safetensors"
    assert paths.weights_path("/no/such/folder/net.safetensors") is None


def test_defaults_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "WEIGHTS", "CACHE"):
        monkeypatch.delenv(f"VLDD_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    here = Path.cwd()
    assert default_paths(Path("runs")) == Paths(here / "data", here / "weights", here / "runs" / "cache")


def test_variables_win_over_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "WEIGHTS", "CACHE"):
        monkeypatch.setenv(f"VLDD_{name}", f"below/{name.lower()}")
    monkeypatch.chdir(tmp_path)
    below = Path.cwd() / "below"
    assert default_paths(Path("/runs")) == Paths(below / "data", below / "weights", below / "cache")


def test_names_that_no_file_can_have_are_paths_that_do_not_exist(paths: Paths) -> None:
    for name in ("x" * 300, "a\0b", "~no-such-user/x"):
        assert paths.weights_path(name) is None
        with pytest.raises(FileNotFoundError, match=r"data\.root: .* is not a folder"):
            find_root(paths, name)
