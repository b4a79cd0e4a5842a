"""Claim: on a GPU an outer step is exact, comes again bit by bit, and takes the memory that is estimated for it.

python -m benchmarks.gpu [--what memory exact repeat full speed experts] [--scopes full heads]
                         [--variants exact/FP32 ...] [--model nfnet_l0] [--px 224] [--pairs 100] [--steps 8]
                         [--repeat 3]

Takes outer steps of bi-trajectory matching on random images with an encoder of timm (random weights) and texts of 768
dimensions, in the scopes ``full`` (the whole image encoder is trained) and ``heads``. ``memory`` compares the peak of a
step with its estimate, in a process of its own; ``exact`` compares gradients on few pairs, in several precisions;
``repeat`` compares the bits of two steps; ``full`` asks for more memory than there is; ``speed`` times steps and counts
their kernels and waits; ``experts`` times an expert's batches. Runs on a CPU too, at sizes such as ``--model test_nfnet
--px 32 --pairs 8``.

A variant is a gradient and a precision: ``FP32`` is the engine's policy, ``TF32`` and ``bf16`` (autocast) compute in
these, ``free`` is FP32 and ``fast`` TF32 with whatever kernels cudnn finds fastest, in any order.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import Row, check_same, cosine, difference, in_fresh_process, interleave, main, peak
from benchmarks.cuda import DEVICE, kernels, precision, waits
from engine import build
from engine.build import Setup
from engine.config.load import Resolved, load, resolve
from engine.data.prepared import PreparedPairs
from engine.distill import Distillation
from engine.experts.train import train_epoch
from engine.io.paths import Paths
from engine.rng import named_generator
from engine.studies.preflight.dummy_inputs import dummy_run, dummy_setup
from engine.studies.preflight.memory import stepped, trial_bytes
from engine.studies.preflight.shares import expert_bytes

GIB = 2**30
SPACE = Path(__file__).parents[1] / "tests" / "tiny.yaml"
NOWHERE = Paths(data=Path("/nowhere"), weights=Path("/nowhere"), cache=Path("/nowhere"))
PRECISIONS = ("FP32", "TF32", "bf16")
LAUNCHES = 6060
"""Kernels and copies of an outer step in the scope ``heads`` on an H100, when its goal was set."""


@dataclass(frozen=True)
class Size:
    """What is measured, the encoder and the numbers of a step; each variant's step is timed ``repeat`` times."""

    what: tuple[str, ...] = ("memory", "exact", "repeat", "full", "speed", "experts")
    scopes: tuple[str, ...] = ("full", "heads")
    variants: tuple[str, ...] = (
        "exact/FP32", "exact/TF32", "exact/bf16", "exact/free", "exact/fast", "truncated/FP32", "stored/FP32",
    )  # fmt: skip
    model: str = "nfnet_l0"
    px: int = 224
    pairs: int = 100
    steps: int = 8
    dim: int = 2304
    repeat: int = 3

    def study(self, scope: str, gradient: str = "exact") -> Resolved:
        """Return the study of such steps."""
        train, head = ("full", "linear") if scope == "full" else ("frozen", "mlp")
        image = f"{{encoder: timm, model: {self.model}, pretrained: false, train: {train}, head: {head}}}"
        words = (
            f"data={{name: shapes, image_px: {self.px}}}",
            f"student.image={image}",
            "student.text={encoder: tfidf, dim: 768, train: frozen, head: mlp}",
            f"student.embed_dim={self.dim}",
            "search={}",
            f"method={{name: bi_trajectory, num_pairs: {self.pairs}, inner_steps: {self.steps}, "
            f"gradient: {gradient}, inner_lr: 0.01}}",
        )
        return resolve(load(SPACE, list(words)))

    def setup(self, scope: str) -> Setup:
        """Return the student on the device with random inputs."""
        study = self.study(scope)
        return dummy_setup(study, NOWHERE, build.build_text_encoder(study, NOWHERE), DEVICE)

    def run(self, scope: str, gradient: str = "exact", setup: Setup | None = None) -> Distillation:
        """Return a run whose synthetic images are random, as far as a real expert is not."""
        run = dummy_run(self.study(scope, gradient), setup or self.setup(scope))
        images = run.state.synthetic.images
        images.data = torch.rand(images.shape, generator=named_generator(0, "pixels")).to(images)
        return run


SMALLEST = Size(
    scopes=("full",), variants=("exact/FP32",), model="test_nfnet", px=32, pairs=4, steps=2, dim=64, repeat=1
)


def gradients(run: Distillation) -> dict[str, Tensor]:
    """Take the gradient of the first outer step of a run, and return a copy."""
    run.state.zero_grad()
    run.method.backward(run.state, run.sources, named_generator(0, "outer/0"))
    return {name: value.grad.clone() for name, value in run.state.named_parameters() if value.grad is not None}


def in_precision(run: Distillation, dtype: torch.dtype) -> Distillation:
    """Return the run with everything that it computes with in ``dtype``."""
    for tower in run.sources.student.towers():
        tower.frozen.to(dtype)
        tower.trained.to(dtype)
    start = {name: value.to(dtype) for name, value in cast(Any, run.sources.experts).start.items()}
    run.sources = replace(run.sources, experts=replace(cast(Any, run.sources.experts), start=start))
    run.state.to(dtype)
    return run


def print_error(error: Exception, what: str) -> None:
    """Print the first line of an error with its type."""
    print(f"  {what}: {type(error).__name__}: {str(error).splitlines()[0][:160]}", flush=True)


def exact(size: Size, scope: str) -> Iterator[Row]:
    """Compare the exact gradient with the stored one, and all precisions with float64."""
    small = replace(size, pairs=min(16, size.pairs), steps=min(4, size.steps))
    found: dict[tuple[str, torch.dtype], dict[str, Tensor]] = {}
    for dtype in (torch.float64, torch.float32):
        for gradient in ("stored", "exact", "truncated"):
            with precision("FP32"):
                found[gradient, dtype] = gradients(in_precision(small.run(scope, gradient), dtype))
    compared = {
        f"{dtype}, {gradient} with stored": (found[gradient, dtype], found["stored", dtype])
        for dtype in (torch.float64, torch.float32)
        for gradient in ("exact", "truncated")
    }
    for name in PRECISIONS:
        with precision(name):
            compared[f"{name} with float64"] = gradients(small.run(scope)), found["exact", torch.float64]
    for what, (one, other) in compared.items():
        parts = ("synthetic.images", "synthetic.texts", "synthetic.log_rates.image")
        pairs = {name: ({name: one[name]}, {name: other[name]}) for name in parts}
        text = [f"{name} {difference(*both):.1e} (cosine {cosine(*both):.6f})" for name, both in pairs.items()]
        print(f"  {scope}, {what}: {', '.join(text).replace('synthetic.', '')}", flush=True)
    for dtype, limit in ((torch.float64, 1e-12), (torch.float32, 1e-4)):
        away = difference(found["exact", dtype], found["stored", dtype])
        check_same(f"{scope}, {dtype}: exact gradient", away, limit=limit)
    yield from ()


def repeat(size: Size, scope: str) -> Iterator[Row]:
    """Compare the bits of four runs of two outer steps, without and with strictly deterministic algorithms."""
    setup = size.setup(scope)

    def state() -> dict[str, Tensor]:
        run = size.run(scope, setup=setup)
        run.run(2)
        return {name: value.clone() for name, value in run.state.state_dict().items()}

    for strict in (False, True):
        torch.use_deterministic_algorithms(strict, warn_only=False)
        try:
            with precision("FP32"):
                first, *others = [state() for _ in range(4)]
            unequal = sum(not torch.equal(first[name], other[name]) for other in others for name in first)
            check_same(f"{scope}, strict {strict}: tensors of other bits in three further runs", unequal, limit=0)
        except RuntimeError as error:
            print_error(error, f"{scope}, strict {strict}")
        finally:
            torch.use_deterministic_algorithms(False)
    yield from ()


def needed(size: Size, scope: str) -> tuple[int, float, int, int]:
    """Return the estimate of a step, its peak, what the allocator holds then, and what the process needs beside it."""
    setup = size.setup(scope)
    estimate = trial_bytes(cast(Any, SimpleNamespace(study=size.study(scope), samples=1)), [setup]).step or 0
    with precision("FP32"):
        run = stepped(size.run(scope, setup=setup))
        run.run(1)
        before = torch.cuda.memory_allocated() if DEVICE.type == "cuda" else 0
        above = peak(partial(run.run, 1), DEVICE)[1]
    if DEVICE.type != "cuda":
        return estimate, above, 0, 0
    (free, total), held = torch.cuda.mem_get_info(), torch.cuda.memory_reserved()
    return estimate, before + above, held, total - free - held


def memory(size: Size, scope: str) -> Iterator[Row]:
    """Compare the measured peak of an outer step with its estimate."""
    estimate, found, held, beside = in_fresh_process(needed, size, scope)
    print(f"  {scope}: reserved {held / GIB:.2f} GiB, beside it {beside / GIB:.2f} GiB", flush=True)
    yield Row(
        f"GPU: peak of an outer step, {scope}", "its estimate", f"{found / GIB:.2f} GiB", f"{estimate / GIB:.2f} GiB",
        found / max(estimate, 1), "<= 1.1", "workspaces of kernels are not estimated",
    )  # fmt: skip


def full(size: Size, scope: str) -> Iterator[Row]:
    """Ask for more memory than the GPU has, and print the error; a smaller step must run after it."""
    if DEVICE.type == "cuda" and scope == "full":
        try:
            replace(size, pairs=max(400, size.pairs)).run(scope, "stored").run(1)
            print("  full: it fits")
        except RuntimeError as error:
            print_error(error, scope)
        torch.cuda.empty_cache()
        replace(size, pairs=4, steps=1).run(scope).run(1)
        print("  full: a smaller step runs in the same process", flush=True)
    yield from ()


def speed(size: Size, scope: str) -> Iterator[Row]:
    """Time an outer step in each variant; the first one is what the others are compared with."""
    setup, first = size.setup(scope), math.nan
    for variant in size.variants:
        gradient, _, name = variant.partition("/")
        try:
            with precision(name):
                run = size.run(scope, gradient, setup)
                step = partial(run.run, 1)
                above = peak(step, DEVICE)[1]
                spent = interleave({variant: step}, size.repeat)[0][variant].clock
                counted, busy = kernels(step) if size.repeat > 1 else (0, 0.0)
                waited = waits(step)
        except (RuntimeError, ArithmeticError) as error:
            print_error(error, f"{scope}, {variant}")
            continue
        finally:
            if DEVICE.type == "cuda":
                torch.cuda.empty_cache()
        first = spent if math.isnan(first) else first
        print(
            f"  {scope}, {variant}: {counted} kernels, busy {busy:.3f} s, {waited} waits, "
            f"peak {above / GIB:.2f} GiB above the student and the set",
            flush=True,
        )
        yield Row(
            f"GPU: an outer step, {scope}, {variant}", size.variants[0], f"{spent:.3g} s", f"{first:.3g} s",
            spent / first, "",
        )  # fmt: skip
        if counted and (scope, variant) == ("heads", "exact/FP32"):
            claim = "GPU: an outer step, heads: launches"
            yield Row(claim, f"{LAUNCHES:,}", f"{counted:,}", f"{LAUNCHES:,}", counted, "<= 1500", "not fused")


def experts(size: Size, scope: str) -> Iterator[Row]:
    """Time an epoch of an expert in batches of 128 random images, from memory to the update."""
    setup, random = size.setup(scope), np.random.default_rng(0)
    number = 1024 if DEVICE.type == "cuda" else 16
    given = setup.pairs["train"]
    images = given.images[:number]
    if images.ndim == 4:
        images = random.integers(0, 256, images.shape, dtype=np.uint8)
    pairs = PreparedPairs(np.array(images), given.texts[:number], np.arange(number))
    recipe = replace(build.expert_recipe(size.study(scope)), batch_size=128)
    params = setup.student.init_params(named_generator(0, "expert"))

    def epoch() -> None:
        train_epoch(setup.student, params, pairs, recipe=recipe, generator=named_generator(0, "epoch"))

    first, estimate = math.nan, expert_bytes(size.study(scope), setup)
    for name in PRECISIONS:
        with precision(name):
            before = torch.cuda.memory_allocated() if DEVICE.type == "cuda" else 0
            above = peak(epoch, DEVICE)[1]
            if estimate and math.isnan(first) and before:
                yield Row(
                    f"GPU: peak of an expert's batch, {scope}", "its estimate", f"{(before + above) / GIB:.2f} GiB",
                    f"{estimate / GIB:.2f} GiB", (before + above) / estimate, "<= 1.1", "workspaces of kernels",
                )  # fmt: skip
            rate = number / interleave({name: epoch}, size.repeat)[0][name].clock
        first = rate if math.isnan(first) else first
        print(f"  {scope}, {name}: peak {above / GIB:.2f} GiB above the student", flush=True)
        claim = f"GPU: an expert's pairs a second, {scope}, {name}"
        yield Row(claim, PRECISIONS[0], f"{rate:,.0f} /s", f"{first:,.0f} /s", rate / first, "")


CHECKS = {"memory": memory, "exact": exact, "repeat": repeat, "full": full, "speed": speed, "experts": experts}


def measure(size: Size) -> Iterator[Row]:
    """Yield the rows of what is asked for, in each scope."""
    for what in size.what:
        for scope in size.scopes:
            print(f"{what}:", flush=True)
            yield from CHECKS[what](size, scope)


if __name__ == "__main__":
    main(__doc__, Size, SMALLEST, measure)
