"""Score sets under the study's protocol in Ray's processes, and cache the scores."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ray
import torch
from torch import Tensor

from engine import build
from engine.build import Setup
from engine.cluster.kept import Kept
from engine.cluster.runtime import use_resources
from engine.config import components
from engine.coresets import load_warmup, save_warmup
from engine.data.classes import Classes
from engine.evaluation.full_data import FullDataRecipe, train_on_everything
from engine.evaluation.protocol import evaluate, prepare_set, real_set, students_of_seeds
from engine.evaluation.student import TrainingSet
from engine.evaluation.zero_shot import zero_shot
from engine.io.files import digest, read_json, write_json
from engine.io.storage import Location
from engine.provenance import numbers_digest, provenance
from engine.rewording import captions_as_texts, known_student, reworded
from engine.rng import named_generator
from engine.specification import Specification
from engine.synthetic.set import SyntheticSet, load_set
from engine.tensors import Modality

Result = dict[str, Any]
"""A score as JSON holds it.

``seeds`` and ``val`` (metrics a student), ``ranks`` (a digit for each caption of test, a student), ``learning_rates``,
``seconds`` to learn or choose the set, ``size`` in bytes, ``provenance`` of the process that computed it.
"""


def score_full_data(specification: Specification, index: int) -> Result:
    """Train student ``index`` on all real pairs; student 0 also saves the warm-up statistics for the coresets."""
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
        save_warmup(warmup_path(specification, setup.inputs), result.warmup)
    return {
        "seeds": [result.test],
        "val": [result.val],
        "ranks": [result.ranks],
        "epoch": result.epoch,
        "learning_rates": study.experts.lr.model_dump(include={"image", "text"}),
        "seconds": time.perf_counter() - started,
    }


def score_coreset(specification: Specification, name: str, num_pairs: int) -> Result:
    """Choose a coreset and score it."""
    study, setup = specification.study, specification.setup()
    warmup = load_warmup(warmup_path(specification, setup.inputs))
    started = time.perf_counter()
    select = components.bind("coreset", name, study.baselines.options.get(name, {}))
    chosen = select(warmup, num_pairs, named_generator(study.seed, f"coreset/{name}/{num_pairs}"))
    seconds = time.perf_counter() - started
    training = real_set(setup.student, setup.pairs["train"], chosen, setup.device)
    size = setup.datasets["train"].stored_bytes(chosen)
    scored = _scored(specification, setup, training)
    return {**scored, "seconds": seconds, "size": size, "chosen": chosen.tolist()}


def score_set(specification: Specification, path: Location) -> Result:
    """Score the synthetic set in a file; its texts are reworded for another text encoder than it was learned with."""
    setup = specification.setup()
    synthetic = _set_for(specification, setup, path)
    training = prepare_set(setup.student, synthetic, setup.device)
    return {**_scored(specification, setup, training), "size": synthetic.size_bytes()}


def _set_for(specification: Specification, setup: Setup, path: Location) -> SyntheticSet:
    """Return the set in a file, with texts and learning rates for the study's student."""
    synthetic = reworded(specification.study, setup, specification.paths, load_set(path))
    return synthetic.of_student(known_student(synthetic.metadata, specification.study))


def score_classes(
    specification: Specification, path: Location, classes: Classes, learning_rates: dict[Modality, float]
) -> Result:
    """Score the set in a file by zero-shot classification of test: by the students that ``score_set`` has trained.

    They are trained again, by the rates that were chosen for them.
    """
    study, setup = specification.study, specification.setup()
    protocol, test = build.protocol(study), setup.pairs["test"]
    training = prepare_set(setup.student, _set_for(specification, setup, path), setup.device)
    rows, belongs = classes.among(setup.datasets["test"].image_names)
    said = [(number, text) for number, texts in enumerate(classes.prompts.values()) for text in texts]
    prompts = captions_as_texts(study, setup, specification.paths, [text for _, text in said]).to(setup.device)
    prompt_class = torch.tensor([number for number, _ in said])
    split = test if protocol.select_epoch == "best_on_test" else setup.pairs["val"]
    students = students_of_seeds(
        setup.student, training, protocol, learning_rates=learning_rates, seed=study.seed, selection_split=split
    )
    sides = {"prompt_class": prompt_class.to(setup.device), "belongs": belongs.to(setup.device)}

    def images() -> Iterator[Tensor]:
        return (test.image_rows(part, setup.device) for part in rows.split(256))

    return {"seeds": [zero_shot(setup.student, params, images(), prompts, **sides) for params in students]}


def score_captions(specification: Specification, path: Location) -> Result:
    """Score a set by its images and captions alone: no learned text, similarity or rate is used."""
    study, setup, synthetic = specification.study, specification.setup(), load_set(path)
    assert synthetic.captions is not None
    texts = captions_as_texts(study, setup, specification.paths, synthetic.captions)
    seen = prepare_set(setup.student, synthetic, setup.device)
    return _scored(specification, setup, TrainingSet(seen.images, texts.to(setup.device), tiles=seen.tiles))


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
    return {"seeds": scores.seeds, "val": scores.val, "ranks": scores.ranks,
            "learning_rates": scores.learning_rates}  # fmt: skip


def warmup_path(specification: Specification, inputs: Mapping[str, str]) -> Location:
    """Return the path of the warm-up statistics of this study's data, student and recipe, and of this code.

    ``inputs`` are those of the study's setup.
    """
    keys = {"feature_epoch", "warmup_epochs", "full_epochs", "patience"}
    decided = specification.study.baselines.model_dump(include=keys)
    name = _key("warmup/1", inputs, {"experts": specification.expert_folder().name, **decided})
    return specification.storage / "warmup" / f"{name}.safetensors"


@dataclass(frozen=True)
class Scorer:
    """Calls scoring functions in other processes; a score is computed once for one data, student, protocol, set, code.

    ``kept`` are processes on shares of GPUs. Without a GPU each score is a task, which caches its result even if the
    caller is gone by then.
    """

    specification: Specification
    kept: Kept

    def score(self, function: Callable[..., Result], *arguments: Any, key: str) -> Result:
        """Return the result of ``key``, from the cache or from ``function(specification, *arguments)`` elsewhere."""
        if (known := self.known(key)) is not None:
            return known
        given = (self._path(key), function, self.specification, *arguments)
        if self.kept.options["num_gpus"]:
            return self.kept.call(_write, *given)
        result: Result = ray.get(ray.remote(_write).options(**self.kept.options).remote(*given))
        return result

    def known(self, key: str) -> Result | None:
        """Return the cached result of ``key``, or None."""
        path = self._path(key)
        return read_json(path) if path.exists() else None

    def forget(self, key: str) -> None:
        """Delete the cached result of ``key``."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Location:
        sections = {"data", "student", "protocol", "seed", "baselines", "precision"}
        tree = self.specification.study.model_dump(mode="json", include=sections)
        tree["experts"] = self.specification.study.experts.model_dump(exclude={"count", "epochs", "damaged"})
        inputs = self.specification.setup(device="cpu").inputs
        return self.specification.storage / "scores" / f"{_key('scores/4', inputs, tree, key)}.json"


def _key(kind: str, inputs: Mapping[str, str], tree: Mapping[str, Any], *words: str) -> str:
    """Return the key of a result: kind, inputs, configuration in any order of keys, and the code that decides it."""
    return digest(kind, numbers_digest(), json.dumps([tree, dict(inputs)], sort_keys=True), *words)


def _write(path: Location, function: Callable[..., Result], specification: Specification, *arguments: Any) -> Result:
    """Compute a result with the resources of this process, add its provenance, and write it."""
    use_resources(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))
    made_by = provenance() | {"precision": specification.study.precision}
    result = {**function(specification, *arguments), "provenance": made_by}
    write_json(path, result)
    return result
