"""Rows of scores name what made them."""

from pathlib import Path
from typing import Any

from engine.studies.baselines import full_row, score_row
from tests.tiny import tiny_job

SCORE = {"seeds": [{"TR1": 5.0}], "learning_rates": {"image": 0.1}, "seconds": 1.0}
MADE = {"commit": "35db3ea", "code": "c0de", "numbers": "5ad", "versions": {"torch": "2.15.0"}, "device": "CPU"}


def test_rows_keep_the_provenance_of_their_scores(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    other = {**MADE, "commit": "1234567"}
    [one] = score_row(job, "random", 8, {**SCORE, "provenance": MADE}).made_by
    assert (one.commit, one.code, one.versions, one.device) == ("35db3ea", "c0de", {"torch": "2.15.0"}, "CPU")
    assert list(one.weights) == ["text"], "the image encoder starts from scratch"
    scores: list[dict[str, Any]] = [{**SCORE, "provenance": made} for made in (MADE, other)]
    found = full_row(job, [*scores, SCORE])
    assert [one.commit for one in found.made_by] == ["35db3ea", "1234567", None]


def test_rows_say_what_the_splits_share(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    for found in (score_row(job, "random", 8, SCORE), full_row(job, [SCORE])):
        assert found.data.startswith("the splits share 0 photos and 0 captions; ")


def test_the_weights_of_a_frozen_encoder_are_named(tmp_path: Path) -> None:
    setup = tiny_job(tmp_path, "student.image.train=frozen").specification.setup()
    before = setup.weights
    assert list(before) == ["text", "image"]
    next(setup.student.image.frozen.parameters()).data.add_(1.0)
    del setup.__dict__["weights"]
    assert setup.weights["text"] == before["text"]
    assert setup.weights["image"] != before["image"]
