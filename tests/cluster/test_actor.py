"""What an expert's actor writes, called without Ray."""

from pathlib import Path

import pytest

from engine.cluster.experts.actor import train_into_store
from engine.experts.store import ExpertStore
from tests.tiny import tiny_job


def test_an_expert_that_diverges_is_refused_before_it_is_written(tmp_path: Path) -> None:
    specification = tiny_job(tmp_path, "experts.lr=1e30").specification
    with pytest.raises(ValueError, match=r"experts\.lr is .*1e\+30.*expert 0 diverges in epoch 1: .* is nan"):
        train_into_store(specification, 0, epochs=2)
    assert ExpertStore(specification.expert_folder()).index() == {0: (0,)}


def test_an_expert_keeps_its_learning_curve_and_goes_on_with_it(tmp_path: Path) -> None:
    specification = tiny_job(tmp_path).specification
    store = ExpertStore(specification.expert_folder())
    for epochs in (1, 2):
        train_into_store(specification, 0, epochs=epochs)
        assert list(store.curve(0)) == list(range(1, epochs + 1))
    for numbers in store.curve(0).values():
        assert 0.0 < numbers["loss"] < 10.0
        assert 0.0 <= numbers["val/mean_recall"] <= 100.0
    assert store.index() == {0: (0, 1, 2)}
