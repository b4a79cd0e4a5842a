"""A score is computed once for one configuration and one version of the code that decides numbers."""

from pathlib import Path
from typing import Any

import pytest

from engine import provenance
from engine.cluster import scoring
from engine.cluster.kept import Kept
from engine.cluster.scoring import Scorer, warmup_path
from engine.io.files import read_json
from engine.specification import Specification
from tests.tiny import tiny_job

ONE_CPU = {"num_cpus": 1, "num_gpus": 0}


def scorer(storage: Path, *overrides: str) -> Scorer:
    return Scorer(tiny_job(storage, *overrides).specification, Kept(ONE_CPU))


def result(specification: Specification, number: float) -> dict[str, Any]:
    return {"seeds": [{"IR1": number}]}


def test_the_order_of_keys_changes_no_score(tmp_path: Path) -> None:
    one, other = "herding: {feature: sum}", "k_center: {feature: sum}"
    orders = [f"baselines.options={{{one}, {other}}}", f"baselines.options={{{other}, {one}}}"]
    coresets = "baselines.coresets=[herding, k_center]"
    paths = {scorer(tmp_path, coresets, order)._path("coreset/herding/8") for order in orders}
    assert len(paths) == 1
    assert scorer(tmp_path)._path("coreset/herding/8") not in paths


@pytest.mark.parametrize("key", ["full_epochs", "patience"])
def test_warm_up_statistics_are_those_of_their_recipe(tmp_path: Path, key: str) -> None:
    one, other = (tiny_job(tmp_path, *words).specification for words in ((), (f"baselines.{key}=17",)))
    assert len({warmup_path(one, {"captions": "1"}), warmup_path(other, {"captions": "1"})}) == 2
    assert warmup_path(one, {"captions": "2"}) != warmup_path(one, {"captions": "1"})


@pytest.mark.usefixtures("ray_local")
def test_a_score_of_other_code_is_computed_again_and_names_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = scorer(tmp_path)
    first = given.score(result, 1.0, key="x")
    assert first["seeds"] == [{"IR1": 1.0}]
    assert given.score(result, 2.0, key="x") == first
    assert read_json(given._path("x")) == first
    assert first["provenance"].keys() == {*provenance.provenance(), "precision"}
    assert first["provenance"]["numbers"] == provenance.numbers_digest()
    before = warmup_path(given.specification, {})
    monkeypatch.setattr(scoring, "numbers_digest", lambda: "another")
    assert warmup_path(given.specification, {}) != before
    assert given.score(result, 2.0, key="x")["seeds"] == [{"IR1": 2.0}]
