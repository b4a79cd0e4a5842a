"""``data.name=auto`` only finds the name: a study and its results are those of the data set that the folder is."""

import pytest

from engine.config.load import load, resolve
from engine.io.paths import Paths
from engine.studies.job import with_data_named
from tests.data.sets import layouts


def test_auto_is_replaced_by_what_it_recognises(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    layouts.coco(paths.data / "mine")
    words = ["data.root=mine", "data.image_px=64", "data.links=follow"]
    found = with_data_named(resolve(load("flickr8k_100", ["data.name=auto", *words])), paths)
    named = ["data.name=coco", "data.captions=annotations/captions_train2017.json", *words]
    assert found.identity == resolve(load("flickr8k_100", named)).identity
    assert found.data.options["links"] == "follow"
    assert capsys.readouterr().out.startswith(f"# {paths.data / 'mine'} is data.name=coco data.captions=annotations/")


def test_leaving_absent_photos_out_is_part_of_the_study(paths: Paths) -> None:
    layouts.captions_txt(paths.data / "mine")
    study = resolve(load("flickr8k_100", ["data.name=auto", "data.root=mine"]))
    whole = with_data_named(study, paths)
    (paths.data / "mine" / "Images" / "0.png").unlink()
    part = with_data_named(study, paths)
    assert (whole.data.options["missing"], part.data.options["missing"]) == ("refuse", "leave_out")
    assert whole.identity != part.identity


def test_a_folder_of_no_layout_is_refused(paths: Paths) -> None:
    (paths.data / "mine").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"data\.root: .*mine is none of the known layouts"):
        with_data_named(resolve(load("flickr8k_100", ["data.name=auto", "data.root=mine"])), paths)
