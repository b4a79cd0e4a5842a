"""Claim: every step that touches all pairs of COCO stays within seconds and a few hundred MiB on one processor.

python -m benchmarks.coco_scale [--dim 4] [--chosen 100] [--only draw]

The data have COCO's shape and random contents: 113,287 training images by reference, 566,747 captions, and 5,000 x
25,000 for ranking. Prints the seconds and the peak memory of each step beyond what was held before it. There is no
published code to compare with, so the largest peak is compared with a bound; the captions that are drawn are compared
with those of a plain loop.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.common import Row, check_same, main, peak
from engine.coresets import WarmupStatistics, forgetting, herding, k_center, load_warmup, random, save_warmup
from engine.data.pairs import PairDataset, one_an_image
from engine.evaluation.full_data import ForgettingCounter
from engine.evaluation.retrieval import retrieval_metrics
from engine.rng import named_generator
from engine.synthetic.initialisation import central_pairs

IMAGES, CAPTIONS = 113_287, 566_747
RANKED_IMAGES, RANKED_CAPTIONS = 5_000, 25_000
BATCH = 512
BOUND = 1000 * 2**20


@dataclass(frozen=True)
class Coco:
    """Random data of COCO's shape, with embeddings of ``dim`` dimensions; steps choose ``chosen`` pairs."""

    dim: int = 4
    chosen: int = 100

    @cached_property
    def caption_image(self) -> np.ndarray:
        """The image of each caption: five each, and a sixth for the first few."""
        return np.sort(np.arange(CAPTIONS) % IMAGES)

    @cached_property
    def captions(self) -> tuple[str, ...]:
        """A short text per caption."""
        return tuple(f"caption {number}" for number in range(CAPTIONS))

    @cached_property
    def warmup(self) -> WarmupStatistics:
        """Statistics with random features and counts."""
        draw = named_generator(0, "coco")
        images, texts = (self.embeddings(size, draw).half() for size in (IMAGES, CAPTIONS))
        counts = torch.randint(0, 4, (CAPTIONS,), generator=draw)
        never_seen = torch.rand(CAPTIONS, generator=draw) < 0.4
        never_learned = (counts == 0) & ~never_seen
        return WarmupStatistics(images, texts, torch.from_numpy(self.caption_image), counts, never_learned, never_seen)

    def embeddings(self, rows: int, generator: torch.Generator) -> Tensor:
        """Return random unit vectors."""
        return normalize(torch.randn(rows, self.dim, generator=generator), dim=1)

    def open(self) -> PairDataset:
        """Open the training split; its images are one image by reference."""
        image = np.broadcast_to(np.zeros((3, 8, 8), dtype=np.uint8), (IMAGES, 3, 8, 8))
        names = tuple(f"{number:012d}.jpg" for number in range(IMAGES))
        return PairDataset(image, names, self.captions, self.caption_image)

    def kmeans(self) -> Tensor:
        """Choose the pairs nearest to the centres of as many clusters."""
        draw = named_generator(0, "kmeans")
        features = self.embeddings(CAPTIONS, draw)
        return central_pairs(features, self.caption_image, self.chosen, draw)

    def forget(self) -> dict[str, Tensor]:
        """Count forgetting over one epoch of one caption per image."""
        counter, draw = ForgettingCounter(CAPTIONS), named_generator(0, "epoch")
        for rows in self.draw().split(BATCH):
            counter(rows, self.embeddings(len(rows), draw), self.embeddings(len(rows), draw))
        return counter.counts()

    def store(self) -> int:
        """Write the warm-up statistics, and read them again."""
        with tempfile.TemporaryDirectory() as folder:
            save_warmup(Path(folder) / "warmup.safetensors", self.warmup)
            return len(load_warmup(Path(folder) / "warmup.safetensors"))

    def draw(self) -> Tensor:
        """Draw one caption of every image, in random order."""
        order = torch.randperm(CAPTIONS, generator=named_generator(0, "order"))
        return one_an_image(self.caption_image, order)

    def draw_plainly(self) -> Tensor:
        """Draw the same captions in a plain loop."""
        first: dict[int, int] = {}
        order = torch.randperm(CAPTIONS, generator=named_generator(0, "order"))
        for caption in order.tolist():
            first.setdefault(int(self.caption_image[caption]), caption)
        return torch.tensor(list(first.values()))

    def rank(self) -> dict[str, float]:
        """Rank the captions and the images of a test split for each other."""
        draw = named_generator(0, "rank")
        owner = torch.arange(RANKED_CAPTIONS) * RANKED_IMAGES // RANKED_CAPTIONS
        images = self.embeddings(RANKED_IMAGES, draw)
        return retrieval_metrics(images, self.embeddings(RANKED_CAPTIONS, draw), owner)

    def steps(self) -> dict[str, Callable[[], Any]]:
        """Return every step by its name."""
        selects = {"random": random, "herding": herding, "k_center": k_center, "forgetting": forgetting}
        return {
            "open the training split": self.open,
            "k-means start": self.kmeans,
            "count forgetting": self.forget,
            "write and read statistics": self.store,
            "draw a caption per image": self.draw,
            "rank 5,000 x 25,000": self.rank,
        } | {
            f"coreset {name}": partial(module.select, self.warmup, self.chosen, named_generator(0, name))
            for name, module in selects.items()
        }


@dataclass(frozen=True)
class Size:
    """Dimensions of the random embeddings, pairs that are chosen, and the first words of the steps (none: all)."""

    dim: int = 4
    chosen: int = 100
    only: str = ""


SMALLEST = Size(only="draw")


def measure(size: Size) -> Iterator[Row]:
    """Print every step, and yield the one with the largest peak."""
    largest = ("", 0.0)
    coco = Coco(size.dim, size.chosen)
    check_same("captions drawn, of other images", float((coco.draw() != coco.draw_plainly()).sum()), limit=0)
    print(f"{'step':28} {'seconds':>8} {'MiB':>8}")
    for name, step in coco.steps().items():
        if name.startswith(size.only):
            spent, above, _ = peak(step)
            print(f"{name:28} {spent.processor:8.2f} {above / 2**20:8.0f}", flush=True)
            largest = max(largest, (name, above), key=lambda one: one[1])
    name, above = largest
    ours, theirs = f"{above / 2**20:.0f} MiB", f"{BOUND / 2**20:.0f} MiB"
    yield Row(f"COCO's pairs: largest peak of a step ({name})", "a bound", ours, theirs, above / BOUND, "<= 1")


if __name__ == "__main__":
    main(__doc__, Size, SMALLEST, measure)
