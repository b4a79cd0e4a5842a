"""Folders of studies as a run leaves them, made without one."""

from pathlib import Path
from typing import Any

import polars
import torch
import yaml
from safetensors.torch import save_file

from engine.io.files import write_json
from engine.report.study import EXPERTS
from engine.results.audit import Audit, Group, Nearest, Recalls, Share, Shown, write_audit
from engine.results.files import write_table
from engine.results.history import BEST_SET, FRAMES, HISTORY, History, write_history
from engine.results.pair_map import PairMap, Side, write_map
from engine.results.row import METRICS, Provenance, Row
from engine.results.statistics import with_recovery
from engine.rng import named_generator
from engine.synthetic.set import SyntheticSet
from engine.synthetic.similarity import SimilarityOptions, make_similarity
from engine.tracking.time_lapse import write_frame

PAIRS, PX = 14, 8
HERE = Provenance(commit="35db3ea", versions={"torch": "2.15.0"}, device="CPU, 2 threads")
RATES = {"loguniform": [0.01, 1.0], "default": 0.1}
INITS = {"choice": [{"image": "real", "text": "real"}, {"image": "kmeans", "text": "kmeans"}],
         "default": {"image": "real", "text": "real"}}  # fmt: skip
PUBLISHED = {"name": "LoRS", "pairs": 100, "source": "arXiv 2406.03793", "protocol": "best epoch on test",
             "mean": {"IR1": 8.3, "mean_recall": 27.4}}  # fmt: skip
STARTED, LEARNED = 0.25, 0.75
PIXEL = "UklGRhoAAABXRUJQVlA4TA4AAAAvAAAAEAcQERGIiP4HAA=="
"""One pixel as WebP in base64."""


def rows(*, budgets: tuple[int, ...] = (5, PAIRS), method: str = "lors") -> list[Row]:
    """Return a table of one method, two coresets at each budget, and all pairs."""
    common: dict[str, Any] = {"protocol": "heads, 100 epochs", "data": "no photo is shared", "made_by": [HERE]}
    found = [_row(method, PAIRS, 20.0, seconds=90.0, size=50_000, memory=10**9, **common)]
    for pairs in budgets:
        for name, recall in (("random", 6.0), ("herding", 9.0)):
            value, cost = recall + pairs / 10, {"seconds": 0.01, "size": 300 * pairs}
            found.append(_row(name, pairs, value, **cost, **common))
    return with_recovery([*found, _row("all pairs", 2000, 40.0, full=True, seconds=30.0, **common)])


def _row(name: str, pairs: int, recall: float, **rest: Any) -> Row:
    return Row.of_seeds(name, pairs, [dict.fromkeys(METRICS, recall + shift) for shift in (-1.0, 0.0, 1.0)], **rest)


def write_study(folder: Path, *, finished: bool = True, trials: int = 5, **changes: Any) -> Path:
    """Write the folder of a study with all that a run leaves there, but Tune's state."""
    folder.mkdir(parents=True)
    given = {
        "note": "A <study> & its $note",
        "seed": 3,
        "data": {"name": "shapes", "image_px": PX},
        "method": {"name": "lors", "num_pairs": PAIRS, "max_start": 2, "span": 2},
        "protocol": {"seeds": 3, "select_step": "val", "select_epoch": "last", "learning_rates": [0.1, 0.3]},
        "baselines": {"coresets": ["random", "herding"], "options": {}},
        "search": {"method.inner_lr.image": RATES, "method.init": INITS},
        "budget": {"outer_steps": 6, "evaluate_every": 2, "metric": "val/mean_recall"},
        "published": [PUBLISHED],
        **changes,
    }
    (folder / "configuration.yaml").write_text(yaml.safe_dump(given, sort_keys=False), encoding="utf-8")
    drawn = named_generator(0, "study")
    images, texts = torch.full((PAIRS, 3, PX, PX), STARTED), torch.randn(PAIRS, 4, generator=drawn)
    save_file({"images": images, "texts": texts, "generator": torch.Generator().get_state()},
              _made(folder / "initial") / "start.safetensors")  # fmt: skip
    similarity = make_similarity(SimilarityOptions(kind="low_rank", rank=2), PAIRS, drawn)
    learned = SyntheticSet(torch.full_like(images, LEARNED), texts, {"image": 0.1, "text": 0.1}, similarity=similarity)
    for number in range(1, trials + 1):
        place = _made(folder / "trials" / f"trial_{number}")
        write_history(place / HISTORY, history(number))
        learned.save(place / BEST_SET)
        said = {"pair": range(PAIRS), "nearest at the start": ["a dog"] * PAIRS,
                "nearest now": ["a dog", *["a <b>cat</b>"] * (PAIRS - 1)]}  # fmt: skip
        (place / "captions.tsv").write_text(polars.DataFrame(said).write_csv(separator="\t"), encoding="utf-8")
        for step in (0, 2, 4):
            write_frame(place / FRAMES, torch.full_like(images, 0.2 + step / 10), outer_step=step)
    if finished:
        learned.save(folder / BEST_SET)
        write_table(folder, rows())
        write_audit(folder, audit())
        sides = (Side(pairs=[((0.1, 0.2), (-0.3, 0.4))] * count, cosine=0.5) for count in (20, PAIRS))
        write_map(folder, PairMap(student="a student", variance=(40.0, 20.0), real=next(sides), synthetic=next(sides)))
        losses = ((2.0, 1.0, 0.5), (2.5, 1.5, 1.0))
        curves = [
            {epoch: {"loss": loss, "val/mean_recall": 5.0 * epoch - expert} for epoch, loss in enumerate(one, start=1)}
            for expert, one in enumerate(losses)
        ]
        write_json(folder / EXPERTS, curves)
    return folder


def audit() -> Audit:
    """Return an audit with one group that has words and one that has none, and a picture of each kind."""
    share = Share(everywhere=27.4, kept=12.5, random=26.6, random_std=4.4)
    none = Share(everywhere=0.0, kept=0.0, random=0.0, random_std=0.0)
    groups = [
        Group(name="animals", share=share, queries=1251, found=20.2, found_by_all=49.9),
        Group(name="children", share=none, queries=0),
    ]
    nearest = Nearest(names=["1.jpg"] * PAIRS, bits=[3] + [90] * (PAIRS - 1), alike=32)
    copy = Shown(images={"learned": PIXEL, "nearest photo": PIXEL}, text="pair 1, 1.jpg: 3 of 256 bits differ")
    kept, lost = (Shown(images={"photo": PIXEL}, text=text) for text in ("a dog & <cat>", "two men"))
    recalls = Recalls(queries=5000, kept=173, lost=2354, gained=127, still=[kept], gone=[lost])
    return Audit(pairs=PAIRS, captions=2000, words=734, coverage=share, groups=groups, nearest=nearest,
                 copies=[copy], recalls=recalls)  # fmt: skip


def history(number: int) -> History:
    """Return the validations of a trial; trial 4 is the best, and its second validation the best of it."""
    best = 10.0 + (10 if number == 4 else number)
    recalls = [best - 2, best, best - 1]
    validations = [
        {
            "outer_step": float(2 * index + 2), "val/mean_recall": recall, "best": max(recalls[: index + 1]),
            "loss": 1.0 / (index + 1), "loss/image": 0.5 / (index + 1), "inner_lr/image": 0.1 + index,
            "seconds_per_outer_step": 0.5,
        }
        for index, recall in enumerate(recalls)
    ]  # fmt: skip
    kind = "kmeans" if number % 2 else "real"
    searched = {
        "method.inner_lr.image": 0.1 if number == 2 else 0.02 * number,
        "method.init": {"image": kind, "text": kind},
    }
    return History(searched=searched, initial="start.safetensors", validations=validations)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
