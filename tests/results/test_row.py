from dataclasses import replace

import pytest

from engine.results.row import METRICS, Provenance, Row
from tests.results.rows import HERE, row


def test_means_and_deviations() -> None:
    found = row("a", 100, 21.0)
    assert found.mean == dict.fromkeys(METRICS, 21.0)
    assert found.std == dict.fromkeys(METRICS, 1.0), "divided by n - 1"
    assert found.by_student["TR1"] == [[20.0, 21.0, 22.0]]
    assert Row.of_seeds("all", 9, [{"TR1": 3.0}]).std == {}, "one student has no deviation"


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^row 'a': got the metric 'r@1', expected one of IR1, IR5"):
        Row(name="a", pairs=1, mean={"r@1": 1.0})


def test_what_made_a_row_is_one_line() -> None:
    assert HERE.sentence() == "commit 35db3ea, torch 2.15.0, ray 2.60.0, CPU, 2 threads"
    assert replace(HERE, precision="fp32").sentence() == HERE.sentence()
    assert replace(HERE, precision="bf16").sentence() == f"{HERE.sentence()}, bf16"
    assert Provenance().sentence() == "not recorded"
