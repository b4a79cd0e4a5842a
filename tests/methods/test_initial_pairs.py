"""The initial pairs of a study are drawn apart from its run, so that trials can share them."""

import pytest
import torch

from engine import build
from engine.config.load import load, resolve
from engine.experts.train import train_expert
from engine.experts.trajectory import MemorySource
from engine.io.paths import Paths
from tests.golden import STUDY


def test_a_run_from_given_pairs_is_the_run_that_draws_them(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        "method.name=lors",
        "method.init={image: kmeans, text: kmeans}",
        "search={}",
        "optimiser.similarity_lr=0.01",
    ]
    study = resolve(load(STUDY, words))
    setup = build.build_setup(study, paths)
    run = train_expert(setup.student, setup.pairs["train"], seed=0, name="expert/0", epochs=2)
    experts = MemorySource([dict(run)])
    drawn = build.distillation(study, setup, experts).state.state_dict()
    images, texts, generator = build.initial_pairs(study, setup, experts)
    kept = torch.Generator()
    kept.set_state(generator.get_state().clone())
    monkeypatch.setattr(build, "initial_tensors", None)
    for initial in ((images, texts, generator), (images, texts, generator), (images, texts, kept)):
        state = build.distillation(study, setup, experts, initial).state.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in drawn.items())
