"""The settings that a bitwise resume depends on are made where a study's data and student are built."""

from collections.abc import Iterator

import pytest
import torch

from engine import build
from engine.config.load import load, resolve
from engine.determinism import set_policy
from engine.io.paths import Paths
from tests.tiny import SPACE

WANTED = {
    (torch.backends.cuda.matmul, "allow_tf32"): False,
    (torch.backends.cudnn, "allow_tf32"): False,
    (torch.backends.cudnn, "deterministic"): True,
    (torch.backends.cudnn, "benchmark"): False,
}


@pytest.fixture
def opposite() -> Iterator[None]:
    """Set every flag to the opposite of the policy, and restore it afterwards."""
    before = {flag: getattr(*flag) for flag in WANTED}
    for (module, name), value in WANTED.items():
        setattr(module, name, not value)
    yield
    for (module, name), value in before.items():
        setattr(module, name, value)


def flags() -> dict[tuple[object, str], bool]:
    return {flag: getattr(*flag) for flag in WANTED}


@pytest.mark.usefixtures("opposite")
def test_the_policy_sets_every_flag() -> None:
    assert flags() != WANTED
    set_policy()
    assert flags() == WANTED


@pytest.mark.usefixtures("opposite")
def test_a_setup_is_built_under_the_policy(paths: Paths) -> None:
    build.build_setup(resolve(load(SPACE)), paths)
    assert flags() == WANTED
