"""The initial pairs of a study are drawn apart from its run, so that trials can share them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine import build
from engine.config.load import load, resolve
from engine.experts.train import train_expert
from engine.experts.trajectory import MemorySource
from engine.initial_pairs import read_initial_pairs
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


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"images": torch.full((2, 3, 4, 4), torch.nan)}, r"images\[0, 0, 0, 0\] is nan, expected finite numbers"),
        ({"texts": torch.full((2, 3), torch.inf)}, r"texts\[0, 0\] is inf, expected finite numbers"),
        ({"generator": torch.zeros(3, dtype=torch.uint8)}, "expected initial pairs in safetensors"),
        ({"generator": torch.zeros(3)}, "expected initial pairs in safetensors"),
        ({"texts": None}, "expected initial pairs in safetensors"),
    ],
    ids=["pixel", "text", "state", "state of floats", "absent"],
)
def test_initial_pairs_that_are_damaged_are_named(
    changes: dict[str, torch.Tensor | None], found: str, tmp_path: Path
) -> None:
    tensors = {"images": torch.rand(2, 3, 4, 4), "texts": torch.rand(2, 3), "generator": torch.Generator().get_state()}
    kept = {name: value for name, value in (tensors | changes).items() if value is not None}
    save_file(kept, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=rf"x\.safetensors: {found}"):
        read_initial_pairs(tmp_path / "x.safetensors")
