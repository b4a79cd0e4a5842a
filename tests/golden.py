"""Golden values: losses of a toy of every method and of the smallest study, to the last digit.

``python -m tests.golden`` prints them, ``--write`` writes them into ``golden.json`` under the name of this machine's
arithmetic. A refactor leaves them as they are; a change of numbers is named in LOG.md.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine import build
from engine.config.load import load, resolve
from engine.distill import Distillation
from engine.evaluation.full_data import FullDataRecipe, train_on_everything
from engine.evaluation.protocol import evaluate, prepare_set
from engine.experts.train import train_expert
from engine.experts.trajectory import MemorySource
from engine.io.files import digest
from engine.io.paths import Paths
from engine.provenance import processor
from tests.methods.test_methods import METHODS, scopes, start

FILE = Path(__file__).with_name("golden.json")
STUDY = Path(__file__).with_name("tiny.yaml")
OPTIONS = {"through_training": {"inner_steps": 4, "inner_lr": {"image": 0.3, "text": 0.3}}}
"""Options of methods that the values were written with, besides the defaults."""
STEPS = 5


def arithmetic() -> str:
    """Return what decides the last digits here: processor, kernels, libraries and threads."""
    kernels = torch.backends.cpu.get_cpu_capability()
    libraries = f"torch {torch.__version__}, numpy {np.__version__}"
    return f"{processor()}, {kernels}, {libraries}, {torch.get_num_threads()} threads"


def losses(run: Distillation, steps: int) -> dict[str, Any]:
    """Take outer steps; return every metric of the method in each, and a digest of all that was learned."""
    seen: list[dict[str, float]] = []
    moves = ("gradient/", "pixel_change")  # of the outer loop; the digest tells more
    run.run(steps, lambda _, __, found: seen.append({k: v for k, v in found.items() if not k.startswith(moves)}))
    state = sorted(run.state.state_dict().items())
    return {"steps": seen, "state": digest(*(value.detach().cpu().numpy().tobytes() for _, value in state))}


def toys(paths: Paths) -> dict[str, Any]:
    """Return the losses of a toy of every method, with whole encoders and with heads alone."""
    return {
        f"{name}, {train}": losses(start(name, paths, train=train, **OPTIONS.get(name, {})), STEPS)
        for name in METHODS
        for train in scopes(name)
    }


def study(paths: Paths) -> dict[str, Any]:
    """Return the numbers of the smallest study: its run, its set's scores, and a student of all pairs."""
    chosen = resolve(load(STUDY))
    setup = build.build_setup(chosen, paths)
    recipe = build.expert_recipe(chosen)
    experts = [
        dict(
            train_expert(
                setup.student,
                setup.pairs["train"],
                seed=chosen.seed,
                name=f"expert/{number}",
                epochs=2,
                recipe=recipe,
            )
        )
        for number in range(chosen.experts.count)
    ]
    run = build.distillation(chosen, setup, MemorySource(experts))
    found = losses(run, chosen.budget.outer_steps)
    scores = evaluate(
        setup.student,
        prepare_set(setup.student, run.synthetic, setup.device),
        build.protocol(chosen),
        seed=chosen.seed,
        val=setup.pairs["val"],
        test=setup.pairs["test"],
    )
    full = train_on_everything(
        setup.student,
        setup.pairs,
        seed=chosen.seed,
        name="full/0",
        recipe=FullDataRecipe(training=recipe, max_epochs=2, patience=3),
    )
    return {**found, "scores": scores.seeds, "val": scores.val, "full": full.test}


def values() -> dict[str, Any]:
    """Compute all golden values, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(data=Path(folder), weights=Path(folder), cache=Path(folder) / "cache")
        return {"toys": toys(paths), "study": study(paths)}


def main() -> None:
    """Print the values, or write them."""
    torch.set_num_threads(1)  # as the tests do
    found = values()
    if "--write" not in sys.argv:
        print(json.dumps(found, indent=1))
        return
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    FILE.write_text(json.dumps({**known, arithmetic(): found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
