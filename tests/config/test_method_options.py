"""The options of every method: what fits, what does not, and that they leave studies as they were where not used."""

import json
from pathlib import Path

import pytest

from engine.config.errors import ConfigError
from engine.config.load import as_yaml, load, resolve
from tests.devices.studies import SPACE

BAD = {
    "method.views={crop: [0.5, 1.5]}": r"method\.views\.crop\.1 is 1\.5, expected .*1",
    "method.views={crop: [0.9, 0.5]}": r"method\.views\.crop is .*0\.9, 0\.5.*, expected the smaller share first",
    "method.views={crop: [0.0, 0.5]}": r"method\.views\.crop\.0 is 0",
    "method.views={count: 0}": r"method\.views\.count is 0",
    "method.views={noise: -1}": r"method\.views\.noise is -1",
    "method.views={turn: 1}": r"method\.views\.turn",
    "method.finest=8": r"method\.finest is 8, expected null, since images is pixels",
    "method.tiles=0": r"method\.tiles is 0, expected .*1",
    "method.images=waves": r"method\.images is 'waves', expected .*pixels.*pyramid",
    "method.bound=0": r"method\.bound is 0",
    "method.students=summed": r"method\.students is 'summed', expected drawn, since students names no further student",
    "method.students=all": r"method\.students is 'all', expected .*drawn.*summed",
}


@pytest.mark.parametrize(("given", "told"), BAD.items(), ids=list(BAD))
def test_what_does_not_fit_is_one_sentence(given: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        resolve(load(SPACE, [given]))


def test_options_at_their_defaults_change_no_identity() -> None:
    plain = resolve(load(SPACE))
    given = resolve(
        load(SPACE, ["method.images=pixels", "method.students=drawn", "method.views=null", "method.tiles=1"])
    )
    assert given.identity == plain.identity
    assert "views" not in json.dumps(plain.model_dump(mode="json"))
    assert resolve(load(SPACE, ["method.bound=0.1"])).identity != plain.identity
    assert resolve(load(SPACE, ["method.tiles=2"])).identity != plain.identity


def test_options_go_through_a_file_and_back() -> None:
    words = ["method.views={count: 2, crop: [0.5, 0.9]}", "method.images=pyramid", "method.finest=8"]
    study = resolve(load(SPACE, words))
    again = type(study).model_validate(json.loads(study.model_dump_json(exclude={"published"})))
    assert again.method == study.method
    assert study.method.views is not None
    assert study.method.views.crop == (0.5, 0.9)


def test_a_pyramid_has_no_bound() -> None:
    with pytest.raises(ConfigError, match=r"method\.bound is 0\.1, expected null, since images is pyramid"):
        resolve(load(SPACE, ["method.images=pyramid", "method.bound=0.1"]))


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("images", ("pixels", "pyramid")),
        ("bound", (None, 0.1)),
        ("views", (None, {"count": 2, "crop": [0.5, 1.0], "noise": 0.0})),
        ("num_pairs", (8, 4)),
    ],
)
def test_each_can_be_searched_and_written(key: str, values: tuple[object, ...], tmp_path: Path) -> None:
    words = json.dumps({f"method.{key}": {"choice": values, "default": values[0]}})
    study = resolve(load(SPACE, [f"search={words}"]))
    domain = study.search[f"method.{key}"]
    assert [json.loads(json.dumps(value)) for value in domain.values] == [json.loads(json.dumps(v)) for v in values]
    (tmp_path / "again.yaml").write_text(as_yaml(study), encoding="utf-8")
    assert resolve(load(tmp_path / "again.yaml")).identity == study.identity
