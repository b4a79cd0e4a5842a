"""Torch follows the study's policy where data and student are built; each precision is as exact as it says."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from engine import build
from engine.config.load import ConfigError, load, resolve
from engine.config.schema import Resolved
from engine.determinism import encoded, set_policy
from engine.experts.trajectory import MemorySource
from engine.io.paths import Paths
from engine.rng import named_generator
from engine.studies.preflight.dummy_inputs import dummy_setup
from tests.devices.studies import CONVNET, SCOPES, TFIDF
from tests.models.text.test_transformers import tiny_bert
from tests.tiny import SPACE

WANTED = {
    (torch.backends.cuda.matmul, "allow_tf32"): False,
    (torch.backends.cudnn, "allow_tf32"): False,
    (torch.backends.cudnn, "deterministic"): True,
    (torch.backends.cudnn, "benchmark"): False,
}
CPU = torch.device("cpu")


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
    set_policy("tf32")
    assert flags() == {flag: value or "tf32" in flag[1] for flag, value in WANTED.items()}
    set_policy("bf16")
    assert flags() == WANTED


@pytest.mark.usefixtures("opposite")
def test_a_setup_is_built_under_the_policy(paths: Paths) -> None:
    build.build_setup(resolve(load(SPACE)), paths)
    assert flags() == WANTED


@pytest.mark.usefixtures("opposite")
def test_steps_are_timed_under_the_policy(paths: Paths) -> None:
    chosen = resolve(load(SPACE))
    dummy_setup(chosen, paths, build.build_text_encoder(chosen, paths), CPU)
    assert flags() == WANTED


def test_a_gpu_without_the_precision_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    old = r"^precision is 'bf16', expected fp32 on Tesla V100, whose compute capability is 7.0 and not 8.0 or more\.$"
    with pytest.raises(ValueError, match=old):
        set_policy("bf16", torch.device("cuda", 0))
    set_policy("fp32", torch.device("cuda", 0))


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="precision is 'fp16', expected 'fp32', 'tf32' or 'bf16'"):
        load(SPACE, ["precision=fp16"])


def study(scope: tuple[str, ...], *words: str) -> Resolved:
    small = "data={name: shapes, image_px: 16, train_images: 24, val_images: 12, test_images: 12}"
    method = "method={name: bi_trajectory, num_pairs: 8, inner_steps: 2}"
    return resolve(load(SPACE, [small, "search={}", "student.embed_dim=16", *scope, method, *words]))


def test_every_key_names_a_precision_that_is_not_the_usual_one() -> None:
    usual, other = study(SCOPES["full"]), study(SCOPES["full"], "precision=bf16")
    assert study(SCOPES["full"], "precision=fp32").identity == usual.identity
    assert other.identity != usual.identity
    assert other.experts_identity != usual.experts_identity


def test_encoders_alone_are_rounded() -> None:
    layer, inputs = torch.nn.Linear(64, 64), torch.randn(8, 64, generator=named_generator(0, "inputs"))
    assert torch.equal(encoded(layer, inputs, "fp32"), layer(inputs))
    rounded = encoded(layer, inputs, "bf16")
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, rounded.bfloat16().float())
    assert encoded(layer.double(), inputs.double(), "fp32").dtype == torch.float64
    assert encoded(layer.to("meta"), inputs.double().to("meta"), "bf16").dtype == torch.float32


def gradient(chosen: Resolved, paths: Paths, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the gradient of one outer step by all that is learned; the expert's parameters move at random."""
    setup = build.build_setup(chosen, paths)
    generator = named_generator(0, "expert")
    start = setup.student.init_params(generator)
    moved = {name: value + 0.01 * torch.randn(value.shape, generator=generator) for name, value in start.items()}
    list(setup.pairs.values())  # made in the study's own precision
    for tower in setup.student.towers():
        tower.frozen.to(dtype)
        tower.trained.to(dtype)
    run = build.distillation(chosen, setup, MemorySource([{0: start, 1: moved, 2: moved, 3: moved}]))
    experts = MemorySource([{e: {n: v.to(dtype) for n, v in p.items()} for e, p in enumerate((start, *[moved] * 3))}])
    run.state.to(dtype)
    run.method.backward(run.state, replace(run.sources, experts=experts), named_generator(0, "step"))
    return torch.cat([value.grad.double().flatten() for value in run.state.parameters() if value.grad is not None])


@pytest.mark.parametrize(
    ("scope", "full", "rounded"),
    [
        pytest.param((CONVNET % "full", TFIDF), 1e-5, 5e-2, id="convnet"),
        pytest.param((CONVNET % "frozen", TFIDF), 1e-5, 5e-2, id="heads"),
        pytest.param(SCOPES["both full"], 5e-5, 0.3, id="convnet and bert"),
    ],
)
def test_the_error_of_a_gradient_against_float64(
    scope: tuple[str, ...], full: float, rounded: float, paths: Paths
) -> None:
    tiny_bert(paths.weights / "tiny-bert")
    exact = gradient(study(scope), paths, torch.float64)

    def error(precision: str) -> float:
        return float((gradient(study(scope, f"precision={precision}"), paths) - exact).norm() / exact.norm())

    found = error("fp32"), error("bf16")
    assert found[0] < full
    assert 1e-4 < found[1] < rounded
