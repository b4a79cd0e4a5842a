"""Scoring sets under the study's protocol, each in a task of its own, and remembering what has been scored."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import ray
from ray import ObjectRef

from engine import build
from engine.build import Setup
from engine.cluster.runtime import use_cpus
from engine.config import components
from engine.coresets import load_warmup, save_warmup
from engine.evaluation.full_data import FullDataRecipe, train_on_everything
from engine.evaluation.protocol import evaluate, prepare_set, real_set
from engine.io.files import digest, read_json, write_json
from engine.io.storage import Location
from engine.rng import named_generator
from engine.specification import Specification
from engine.synthetic.set import load_set

Result = dict[str, Any]
"""``seeds`` and ``val`` (metrics a student), ``rates``, ``seconds`` to learn or choose the set, ``size`` in bytes."""

Score: TypeAlias = Result | ObjectRef
"""A result, or the reference of one that is on its way."""


def score_full_data(specification: Specification, index: int) -> Result:
    """Train student ``index`` of all real pairs; the first one also leaves the coresets' evidence on disk."""
    study, setup = specification.study, specification.setup()
    started = time.perf_counter()
    result = train_on_everything(
        setup.student,
        setup.pairs,
        seed=study.seed,
        name=f"full/{index}",
        recipe=FullDataRecipe(
            training=build.expert_recipe(study),
            max_epochs=study.baselines.full_epochs,
            patience=study.baselines.patience,
            feature_epoch=study.baselines.feature_epoch if index == 0 else None,
            forgetting_epochs=study.baselines.warmup_epochs,
        ),
    )
    if result.warmup is not None:
        save_warmup(warmup_path(specification), result.warmup)
    learning_rates = {modality: getattr(study.experts.lr, modality) for modality in ("image", "text")}
    seconds = time.perf_counter() - started
    return {
        "seeds": [result.test],
        "val": [result.val],
        "epoch": result.epoch,
        "learning_rates": learning_rates,
        "seconds": seconds,
    }


def score_coreset(specification: Specification, name: str, num_pairs: int) -> Result:
    """Choose a coreset and score it."""
    study, setup = specification.study, specification.setup()
    warmup = load_warmup(warmup_path(specification))
    started = time.perf_counter()
    select = components.bind("coreset", name, study.baselines.options.get(name, {}))
    chosen = select(warmup, num_pairs, named_generator(study.seed, f"coreset/{name}/{num_pairs}"))
    seconds = time.perf_counter() - started
    training = real_set(setup.student, setup.pairs["train"], chosen, setup.device)
    size = setup.datasets["train"].stored_bytes(chosen)
    scored = _scored(specification, setup, training)
    return {**scored, "seconds": seconds, "size": size, "chosen": chosen.tolist()}


def score_set(specification: Specification, path: Location) -> Result:
    """Score a synthetic set from its file, reworded where the study's text encoder is not that of the set."""
    setup = specification.setup()
    synthetic = build.reworded(specification.study, setup, specification.paths, load_set(path))
    training = prepare_set(setup.student, synthetic, setup.device)
    return {**_scored(specification, setup, training), "size": synthetic.size_bytes()}


def _scored(specification: Specification, setup: Setup, training: Any) -> Result:
    study = specification.study
    scores = evaluate(
        setup.student,
        training,
        build.protocol(study),
        seed=study.seed,
        val=setup.pairs["val"],
        test=setup.pairs["test"],
    )
    return {"seeds": scores.seeds, "val": scores.val, "learning_rates": scores.learning_rates}


def warmup_path(specification: Specification) -> Location:
    """Return where the evidence of this study's data, student and recipe lies."""
    study = specification.study
    key = digest("evidence/2", str(specification.expert_folder().name), repr(study.baselines.feature_epoch),
                 repr(study.baselines.warmup_epochs), repr(study.baselines.full_epochs))  # fmt: skip
    return specification.storage / "evidence" / f"{key}.safetensors"


@dataclass(frozen=True)
class Scorer:
    """Runs scoring functions as Ray tasks; a score is computed once for one data, student, protocol and set."""

    specification: Specification
    resources: dict[str, float]

    def submit(self, function: Callable[..., Result], *arguments: Any, key: str) -> Score:
        """Return the remembered result of ``key``, or have ``function(specification, *arguments)`` computed.

        What a task has computed is remembered even where nobody waits for it any more.
        """
        path = self._path(key)
        if path.exists():
            result: Result = read_json(path)
            return result
        return _remember.options(**self.resources).remote(path, function, self.specification, *arguments)

    def forget(self, key: str) -> None:
        """Forget the result of ``key``."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Location:
        sections = {"data", "student", "protocol", "seed", "baselines"}
        tree = self.specification.study.model_dump(mode="json", include=sections)
        tree["experts"] = self.specification.study.experts.model_dump(exclude={"count", "epochs", "damaged"})
        name = digest("scores/3", json.dumps(tree, sort_keys=True), key)
        return self.specification.storage / "scores" / f"{name}.json"


def waited(score: Score) -> Result:
    """Return a result, waiting for it where it is still computed."""
    result: Result = ray.get(score) if isinstance(score, ObjectRef) else score
    return result


@ray.remote
def _remember(path: Location, function: Callable[..., Result], *arguments: Any) -> Result:
    """Compute a result in a process sized for the CPUs it was given, and write it."""
    use_cpus(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))
    result = function(*arguments)
    write_json(path, result)
    return result
