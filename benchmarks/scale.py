"""Hours, bytes and money for COCO at 224 px on 1, 8 and 64 GPUs, from rates measured on one GPU: docs/scale.md.

python -m benchmarks.scale [--price 3.0] [--experts 20] [--epochs 10] [--steps 2000] [--trials 8] [--pairs 100]
"""

import argparse
import math
from dataclasses import dataclass, fields

IMAGES, CAPTIONS, PX = 123_287, 566_747, 224
WIDTHS = {"image": 2304, "text": 768}
GPUS = (1, 8, 64)
RATES = {  # scope, precision: pairs a second of an expert, seconds of an outer step; benchmarks/RESULTS.md, one H100
    ("heads", "FP32"): (31_065, 0.249),
    ("heads", "TF32"): (31_841, 0.213),
    ("full", "FP32"): (580, 9.71),
    ("full", "TF32"): (1_292, 4.48),
    ("full", "bf16"): (1_650, 4.17),
}
SNAPSHOT = {"heads": 70_852_608, "full": 180_669_248}
"""Bytes of the trained parameters of NFNet-L0 with heads of 2,304 dimensions, counted on the student itself."""


@dataclass(frozen=True)
class Job:
    """What is computed: dollars an hour of one GPU; experts and their epochs; outer steps of each trial; pairs."""

    price: float = 3.0
    experts: int = 20
    epochs: int = 10
    steps: int = 2000
    trials: int = 8
    pairs: int = 100


def hours(job: Job, scope: str, precision: str, gpus: int) -> tuple[float, float]:
    """Return the hours of the experts and of the trials, each of which has one GPU for itself."""
    rate, step = RATES[scope, precision]
    expert, trial = job.epochs * CAPTIONS / rate / 3600, job.steps * step / 3600
    return math.ceil(job.experts / gpus) * expert, math.ceil(job.trials / gpus) * trial


def binding(job: Job, experts: float, trials: float, gpus: int) -> str:
    """Return what a further GPU would have to make shorter."""
    name, number = ("experts", job.experts) if experts > trials else ("outer steps", job.trials)
    return f"{name}, one GPU each: {gpus - number} GPUs idle" if gpus > number else name


def tables(job: Job) -> str:
    """Return both tables of the page."""
    lines = [
        "| scope | precision | GPUs | experts, h | trials, h | in all, h | GPU-hours | dollars | binds |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for scope, precision in RATES:
        for gpus in GPUS:
            experts, trials = hours(job, scope, precision, gpus)
            total = experts + trials
            lines.append(
                f"| {scope} | {precision} | {gpus} | {experts:.1f} | {trials:.1f} | {total:.1f} | {total * gpus:.0f} | "
                f"{total * gpus * job.price:,.0f} | {binding(job, experts, trials, gpus)} |"
            )
    one = job.pairs * (3 * PX**2 + WIDTHS["text"]) * 4
    sizes = {
        "photos decoded once, uint8": IMAGES * 3 * PX**2,
        "features of the photos, float32 (heads alone)": IMAGES * WIDTHS["image"] * 4,
        "embeddings of the captions, float32": CAPTIONS * WIDTHS["text"] * 4,
        **{f"snapshots of all experts, {s}": job.experts * (job.epochs + 1) * n for s, n in SNAPSHOT.items()},
        "a synthetic set, float32": one,
        "checkpoints of a trial: two of a set with Adam's two moments, and the best set": 7 * one,
    }
    lines += ["", "| on the disk | GB |", "|---|---:|", *(f"| {n} | {b / 1e9:.2f} |" for n, b in sizes.items())]
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in fields(Job):
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    print(tables(Job(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
