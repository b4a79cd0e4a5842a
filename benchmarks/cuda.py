"""What is set and counted on a GPU alone: the precision of products, kernels, and waits of the host."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from benchmarks.common import synchronise
from engine import build
from engine.determinism import set_policy

DEVICE = build.default_device()


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
