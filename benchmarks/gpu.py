"""Claim: on a GPU an outer step is exact, comes again bit by bit, and takes the memory that is estimated for it.

python -m benchmarks.gpu [exact repeat memory full speed experts] [--scopes full heads] [--variants exact/FP32 ...]
                         [--model nfnet_l0] [--px 224] [--pairs 100] [--steps 8] [--repeat 3]

Takes outer steps of bi-trajectory matching on random images with an encoder of timm (random weights) and texts of 768
dimensions, in the scopes ``full`` (the whole image encoder is trained) and ``heads``. ``exact`` compares gradients on
few pairs, in two precisions; ``repeat`` compares the bits of two steps; ``memory`` compares the peak of a step with its
estimate; ``full`` asks for more memory than there is; ``speed`` times steps and counts their kernels and waits;
``experts`` times an expert's batches. Runs on a CPU too, at sizes such as ``--model test_nfnet --px 32 --pairs 8``.

A variant is a gradient and a precision: ``FP32`` is the engine's policy, ``TF32`` and ``bf16`` (autocast) compute in
these, ``free`` is FP32 and ``fast`` TF32 with whatever kernels cudnn finds fastest, in any order.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from engine import build
from engine.build import Setup
from engine.config.load import Resolved, load, resolve
from engine.data.prepared import PreparedPairs
from engine.determinism import set_policy
from engine.distill import Distillation
from engine.experts.train import train_epoch
from engine.io.paths import Paths
from engine.peak_memory import PeakMemory
from engine.rng import named_generator
from engine.studies.preflight.dummy_inputs import dummy_run, dummy_setup

GIB = 2**30
SPACE = Path(__file__).parents[1] / "tests" / "tiny.yaml"
NOWHERE = Paths(data=Path("/nowhere"), weights=Path("/nowhere"), cache=Path("/nowhere"))
DEVICE = build.default_device()


@dataclass(frozen=True)
class Size:
    """The encoder and the numbers of a step."""

    model: str
    px: int
    pairs: int
    steps: int
    scope: str = "full"
    gradient: str = "exact"

    def study(self) -> Resolved:
        """Return the study of such steps."""
        train, head = ("full", "linear") if self.scope == "full" else ("frozen", "mlp")
        image = f"{{encoder: timm, model: {self.model}, pretrained: false, train: {train}, head: {head}}}"
        words = (
            f"data={{name: shapes, image_px: {self.px}}}",
            f"student.image={image}",
            "student.text={encoder: tfidf, dim: 768, train: frozen, head: mlp}",
            "student.embed_dim=2304",
            "search={}",
            f"method={{name: bi_trajectory, num_pairs: {self.pairs}, inner_steps: {self.steps}, "
            f"gradient: {self.gradient}, inner_lr: 0.01}}",
        )
        return resolve(load(SPACE, list(words)))

    def setup(self) -> Setup:
        """Return the student on the device with random inputs."""
        study = self.study()
        return dummy_setup(study, NOWHERE, build.build_text_encoder(study, NOWHERE), DEVICE)

    def run(self, setup: Setup | None = None) -> Distillation:
        """Return a run whose synthetic images are random, as far as a real expert is not."""
        run = dummy_run(self.study(), setup or self.setup())
        images = run.state.synthetic.images
        images.data = torch.rand(images.shape, generator=named_generator(0, "pixels")).to(images)
        return run


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


def synchronise() -> None:
    """Wait for the GPU, if there is one."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def seconds(call: Callable[[], Any], repeat: int) -> list[float]:
    """Return the seconds of each of ``repeat`` calls after one that warms up."""
    spent = []
    for _ in range(repeat + 1):
        synchronise()
        began = time.perf_counter()
        call()
        synchronise()
        spent.append(time.perf_counter() - began)
    return spent[1:]


def kernels(call: Callable[[], Any]) -> tuple[int, float]:
    """Return the kernels and copies of a call and the seconds that they took, and print the five that took most."""
    if DEVICE.type != "cuda":
        return 0, 0.0
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call()
        synchronise()
    events = [e for e in profile.key_averages() if e.device_type == torch.autograd.DeviceType.CUDA]
    total = sum(e.self_device_time_total for e in events)
    for event in sorted(events, key=lambda e: -e.self_device_time_total)[:5]:
        print(f"    {event.self_device_time_total / total:4.0%} {event.count:>6} x {event.key[:110]}")
    return sum(e.count for e in events), sum(e.self_device_time_total for e in events) / 1e6


def waits(call: Callable[[], Any]) -> int:
    """Return how often a call waits for the GPU, as torch sees it."""
    if DEVICE.type != "cuda":
        return 0
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        call()
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in said)


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Compute as the name of a variant's precision says."""
    set_policy()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name in ("TF32", "bf16", "fast")
    torch.backends.cudnn.deterministic = name not in ("free", "fast")
    torch.backends.cudnn.benchmark = name in ("free", "fast")
    with torch.autocast(DEVICE.type, torch.bfloat16) if name == "bf16" else nullcontext():
        yield
    set_policy()


def told(error: Exception) -> str:
    """Return the first line of an error with its type."""
    return f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"


def away(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> str:
    """Return the relative error and the cosine of each gradient."""
    parts = []
    for name in ("synthetic.images", "synthetic.texts", "synthetic.log_rates.image"):
        a, b = found[name].double().flatten(), wanted[name].double().flatten()
        cosine = float(a @ b / a.norm() / b.norm())
        parts.append(f"{name.removeprefix('synthetic.')} {float((a - b).norm() / b.norm()):.1e} (cos {cosine:.6f})")
    return ", ".join(parts)


def exact(size: Size) -> None:
    """Compare the exact gradient with the stored one, and both precisions with float64."""
    small = replace(size, pairs=min(16, size.pairs), steps=min(4, size.steps))
    found: dict[tuple[str, torch.dtype], dict[str, Tensor]] = {}
    for dtype in (torch.float64, torch.float32):
        for gradient in ("stored", "exact", "truncated"):
            with precision("FP32"):
                found[gradient, dtype] = gradients(in_precision(replace(small, gradient=gradient).run(), dtype))
    print(f"exact: {small}")
    for dtype in (torch.float64, torch.float32):
        reference = found["stored", dtype]
        print(f"  {dtype}: exact against stored: {away(found['exact', dtype], reference)}")
        print(f"  {dtype}: truncated against stored: {away(found['truncated', dtype], reference)}")
    print(f"  float32 against float64: {away(found['exact', torch.float32], found['exact', torch.float64])}")
    for name in ("TF32", "bf16"):
        with precision(name):
            print(
                f"  {name} against float64: {away(gradients(small.run()), found['exact', torch.float64])}", flush=True
            )


def repeat(size: Size) -> None:
    """Compare the bits of four runs of two outer steps, without and with strictly deterministic algorithms."""

    def state() -> dict[str, Tensor]:
        run = size.run(setup)
        run.run(2)
        return {name: value.clone() for name, value in run.state.state_dict().items()}

    setup = size.setup()
    for strict in (False, True):
        torch.use_deterministic_algorithms(strict, warn_only=False)
        try:
            with precision("FP32"):
                first, *others = [state() for _ in range(4)]
            equal = all(torch.equal(first[name], other[name]) for other in others for name in first)
            print(f"repeat: {size.scope}, strict {strict}: {'the same bits' if equal else 'OTHER BITS'}", flush=True)
        except RuntimeError as error:
            print(f"repeat: {size.scope}, strict {strict}: {told(error)}", flush=True)
        torch.use_deterministic_algorithms(False)


def memory(size: Size) -> None:
    """Compare the measured peak of an outer step with its estimate."""
    from engine.studies.preflight.memory import stepped, trial_bytes

    setup = size.setup()
    estimate = trial_bytes(cast(Any, SimpleNamespace(study=size.study(), samples=1)), setup).step or 0
    with precision("FP32"):
        run = stepped(size.run(setup))
        run.run(1)
        peak = PeakMemory(DEVICE)
        run.run(1)
        found = peak.bytes() or 0
    held, context = 0, 0
    if DEVICE.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        held = torch.cuda.memory_reserved()
        context = total - free - held
    print(
        f"memory: {size.scope}, {size.gradient}: peak {found / GIB:.2f} GiB, estimate {estimate / GIB:.2f} "
        f"({found / max(estimate, 1):.2f} of it), reserved {held / GIB:.2f} GiB, beside it {context / GIB:.2f} GiB",
        flush=True,
    )


def full(size: Size) -> None:
    """Ask for more memory than the GPU has, and print the error, and whether a smaller step runs after it."""
    if DEVICE.type != "cuda":
        return
    try:
        replace(size, pairs=max(400, size.pairs), gradient="stored").run().run(1)
        print("full: it fits")
    except RuntimeError as error:
        print(f"full: {error}")
    torch.cuda.empty_cache()
    replace(size, pairs=4, steps=1).run().run(1)
    print("full: a smaller step runs in the same process", flush=True)


def speed(size: Size, repeat: int, variants: list[str]) -> None:
    """Time an outer step in each variant."""
    setup = size.setup()
    for gradient, _, name in (variant.partition("/") for variant in variants):
        with precision(name):
            try:
                run = replace(size, gradient=gradient).run(setup)
                peak = PeakMemory(DEVICE)
                spent = seconds(lambda run=run: run.run(1), repeat)  # type: ignore[misc]
                found = (peak.bytes() or 0) / GIB
                counted, busy = kernels(lambda run=run: run.run(1)) if repeat > 1 else (0, 0.0)  # type: ignore[misc]
                waited = waits(lambda run=run: run.run(1))  # type: ignore[misc]
                print(
                    f"speed: {size.scope:<5} {gradient:<9} {name}: {statistics.median(spent):.3f} s "
                    f"({min(spent):.3f} to {max(spent):.3f}), {counted} kernels, busy {busy:.3f} s, {waited} waits, "
                    f"peak {found:.2f} GiB",
                    flush=True,
                )
            except (RuntimeError, ArithmeticError) as error:
                print(f"speed: {size.scope:<5} {gradient:<9} {name}: {told(error)}", flush=True)
        if DEVICE.type == "cuda":
            torch.cuda.empty_cache()


def experts(size: Size) -> None:
    """Time an expert's batches of 128 random images, from memory to the update."""
    setup, random = size.setup(), np.random.default_rng(0)
    number = 1024 if DEVICE.type == "cuda" else 16
    given = setup.pairs["train"]
    images = given.images[:number]
    if images.ndim == 4:
        images = random.integers(0, 256, images.shape, dtype=np.uint8)
    pairs = PreparedPairs(np.array(images), given.texts[:number], np.arange(number))
    recipe = replace(build.expert_recipe(size.study()), batch_size=128)
    params = setup.student.init_params(named_generator(0, "expert"))
    for name in ("FP32", "TF32", "bf16"):
        with precision(name):
            peak = PeakMemory(DEVICE)
            spent = seconds(
                lambda: train_epoch(setup.student, params, pairs, recipe=recipe, generator=named_generator(0, "epoch")),
                3,
            )
        rate, peak_gib = number / statistics.median(spent), (peak.bytes() or 0) / GIB
        print(f"experts: {size.scope:<5} {name}: {rate:.0f} pairs a second, peak {peak_gib:.2f} GiB", flush=True)


def main() -> None:
    """Print what was asked for, in both scopes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = ("exact", "repeat", "memory", "full", "speed", "experts")
    parser.add_argument("what", nargs="*", default=everything)
    variants = ["exact/FP32", "exact/TF32", "exact/bf16", "exact/free", "exact/fast", "truncated/FP32", "stored/FP32"]
    parser.add_argument("--scopes", nargs="+", default=["full", "heads"])
    parser.add_argument("--variants", nargs="+", default=variants)
    parser.add_argument("--model", default="nfnet_l0")
    parser.add_argument("--px", type=int, default=224)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU"
    print(f"torch {torch.__version__}, CUDA {torch.version.cuda}, {name}; {vars(given)}", flush=True)
    for scope in given.scopes:
        size = Size(given.model, given.px, given.pairs, given.steps, scope)
        calls: dict[str, Callable[[], None]] = {
            "exact": lambda size=size: exact(size),  # type: ignore[misc]
            "repeat": lambda size=size: repeat(size),  # type: ignore[misc]
            "memory": lambda size=size: memory(size),  # type: ignore[misc]
            "full": lambda size=size: full(size) if size.scope == "full" else None,  # type: ignore[misc]
            "speed": lambda size=size: speed(size, given.repeat, given.variants),  # type: ignore[misc]
            "experts": lambda size=size: experts(size),  # type: ignore[misc]
        }
        for what in given.what:
            began = time.perf_counter()
            calls[what]()
            print(f"  ({what} took {time.perf_counter() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
