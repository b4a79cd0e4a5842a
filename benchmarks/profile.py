"""Where the time of an outer step goes, by part.

python -m benchmarks.profile [--steps 5] [--px 128] [--every 40]

Takes outer steps of the recipe ``flickr8k_100_small`` at its shapes, on random photos and captions, with random weights
(MobileNetV1-0.25, embeddings of 384 dimensions) and an expert in memory, under cProfile. Parts are functions of the
engine that do not call each other; the rest is what is left. A checkpoint and a frame, which are written once in
``every`` steps, are shared out over them. MLflow is written by the driver beside the trial, which
``benchmarks.overhead`` measures.
"""

import cProfile
import pstats
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, cast

import torch

from benchmarks.common import Row, main, timed
from engine import build
from engine.config.load import load, resolve
from engine.distill import Distillation
from engine.experts.trajectory import sample_segment
from engine.io.paths import Paths
from engine.models.encode_once import EncodedOnce, encode_once
from engine.studies.preflight.dummy_inputs import dummy_run, dummy_setup, with_method
from engine.tracking.time_lapse import write_frame
from engine.unroll.steps import adjoint_step, outer_gradient, rollout
from engine.unroll.student import inner_batches

SPACE = Path(__file__).parents[1] / "tune_spaces" / "flickr8k_100_small.yaml"
PARTS: dict[str, tuple[Callable[..., Any], ...]] = {
    "draw: segment of an expert, inner batches": (sample_segment, inner_batches),
    "pixels to features": (encode_once,),
    "inner steps, forward": (rollout,),
    "matching loss and its gradient": (outer_gradient,),
    "adjoint of the inner steps": (adjoint_step,),
    "features to pixels": (EncodedOnce.pull_back,),
    "outer optimiser": (Distillation._move,),
}


@dataclass(frozen=True)
class Size:
    """Outer steps that are profiled, the side of the photos, and the steps between two validations."""

    steps: int = 5
    px: int = 128
    every: int = 40


SMALLEST = Size(steps=1, px=32)


def make_run(px: int) -> Distillation:
    """Return a run of the recipe on random inputs."""
    words = (
        f"data.image_px={px}",
        "student.image.weights=null",
        "student.text={encoder: tfidf, dim: 384, train: frozen, head: mlp}",
        "search={}",
    )
    study = resolve(load(SPACE, list(words)))
    study = with_method(study, num_pairs=study.method.num_pairs)
    nowhere = Paths(data=Path("/nowhere"), weights=Path("/nowhere"), cache=Path("/nowhere"))
    setup = dummy_setup(study, nowhere, build.build_text_encoder(study, nowhere), torch.device("cpu"))
    return dummy_run(study, setup)


def seconds_of(profile: cProfile.Profile, function: Callable[..., Any]) -> float:
    """Return the seconds that were spent in a function and below it."""
    code = cast(FunctionType, function).__code__
    found = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    return float(found.get((code.co_filename, code.co_firstlineno, code.co_name), (0, 0, 0, 0.0))[3])


def measure(size: Size) -> Iterator[Row]:
    """Print the table; there is no claim."""
    run = make_run(size.px)
    run.run(1)
    profile = cProfile.Profile()
    profile.enable()
    run.run(size.steps)
    profile.disable()
    total = seconds_of(profile, Distillation.run) / size.steps
    parts = {name: sum(seconds_of(profile, one) for one in of) / size.steps for name, of in PARTS.items()}
    parts["the rest of the step"] = total - sum(parts.values())
    with tempfile.TemporaryDirectory() as folder:
        written, _ = timed(lambda: run.save(Path(folder) / "checkpoint.safetensors"))
        frame, _ = timed(lambda: write_frame(Path(folder) / "frames", run.synthetic.images, outer_step=1))
    parts["checkpoint and frame, shared out"] = (written.clock + frame.clock) / size.every
    print(f"{'part of an outer step':<44} {'ms':>8} {'share':>6}")
    for name, seconds in parts.items():
        print(f"{name:<44} {1000 * seconds:>8.1f} {seconds / sum(parts.values()):>6.1%}")
    print(f"{'in all':<44} {1000 * sum(parts.values()):>8.1f}")
    yield from ()


if __name__ == "__main__":
    main(__doc__, Size, SMALLEST, measure)
