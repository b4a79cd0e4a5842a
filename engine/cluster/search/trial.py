"""A Tune trial: one distillation run, validated every few outer steps, that resumes exactly where it was."""

import resource
import statistics
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.actor import ActorHandle

from engine import build
from engine.cluster.errors import USER_ERRORS, one_sentence_errors
from engine.cluster.experts.registry import RemoteSource, get_registry
from engine.cluster.runtime import use_resources
from engine.config.load import assign
from engine.distill import NonFiniteLossError
from engine.evaluation.protocol import learned_learning_rates, prepare_set, student_of_seed
from engine.evaluation.student import score
from engine.experts.trajectory import ExpertId
from engine.io.files import read_json, write_json
from engine.methods import Metrics
from engine.specification import Specification
from engine.synthetic.set import load_set

BEST_SET = "synthetic_set.safetensors"
INITIAL_SET = "initial_set.safetensors"
_CHECKPOINT = "checkpoint.safetensors"
_PROGRESS = "progress.json"


class DistillTrial(tune.Trainable):
    """Tune calls ``step`` until it reports ``done``; its configuration holds the searched keys alone.

    A loss that is not finite, and an error of the user's, end a trial with the result ``failure``: Tune would repeat
    whatever is raised, and these would come again. ``refused`` says that it was the user's.
    """

    def setup(self, config: dict[str, Any], specification: Specification, cpus: float) -> None:
        """Assemble the run of the searched values in ``config``."""
        use_resources(cpus)
        self.specification = specification
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Assemble the run of another trial in the same process."""
        self.study = self.specification.study
        self.refusal: str | None = None
        self.best: dict[str, float] = {}
        try:
            with one_sentence_errors(self.specification.storage):
                self._assemble(new_config)
        except USER_ERRORS as error:
            self.refusal = str(error)
        return True

    def _assemble(self, config: dict[str, Any]) -> None:
        self.study = assign(self.study, config)
        self.prepared = self.specification.setup()
        folder = self.specification.expert_folder()
        registry = get_registry(folder)
        experts = RemoteSource(folder, registry, expert_epochs(self.study.experts.count, registry))
        self.run = build.distillation(self.study, self.prepared, experts)
        self.protocol = build.protocol(self.study)
        self.initial_set = deepcopy(self.run.synthetic)
        self.best_set = self.initial_set

    def step(self) -> dict[str, Any]:
        """Take ``evaluate_every`` outer steps and validate one student."""
        if self.refusal is not None:
            return self._failed(self.refusal, refused=True)
        try:
            with one_sentence_errors(self.specification.storage):
                return self._steps()
        except NonFiniteLossError as error:
            return self._failed(str(error), refused=False)
        except USER_ERRORS as error:
            return self._failed(str(error), refused=True)

    def _failed(self, reason: str, *, refused: bool) -> dict[str, Any]:
        done = 0 if self.refusal is not None else self.run.step
        return {self.study.budget.metric: -1.0, "outer_step": done, "failure": reason, "refused": refused, "done": True}

    def _steps(self) -> dict[str, Any]:
        budget = self.study.budget
        started = time.perf_counter()
        steps = min(budget.evaluate_every, budget.outer_steps - self.run.step)
        seen: list[Metrics] = []
        self.run.run(steps, lambda step, state, metrics: seen.append(metrics))
        elapsed = time.perf_counter() - started
        val = self.validate()
        if self.study.protocol.select_step == "last" or val[budget.metric] > self.best.get(budget.metric, -1.0):
            self.best = {**val, "outer_step": float(self.run.step)}
            self.best_set = deepcopy(self.run.synthetic)
        return {
            **val,
            **averages(seen),
            "best": self.best[budget.metric],
            "outer_step": self.run.step,
            "seconds_per_outer_step": elapsed / max(steps, 1),
            "peak_memory": float(peak_memory(self.prepared.device)),
            "done": self.run.step >= budget.outer_steps,
        }

    def validate(self) -> dict[str, float]:
        """Return the val metrics of one fresh student trained on the set as it is, at the rates that it has learned."""
        student, val = self.prepared.student, self.prepared.pairs["val"]
        training = prepare_set(student, self.run.synthetic, self.prepared.device)
        assert training.learning_rates is not None
        params = student_of_seed(
            student,
            training,
            self.protocol,
            learning_rates=learned_learning_rates(training.learning_rates, self.protocol),
            seed=self.study.seed,
            name="validate",
            selection_split=val,
        )
        return {f"val/{name}": value for name, value in score(student, params, val).items()}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the run, its best set and its first set, and the best metrics last."""
        folder = Path(checkpoint_dir)
        if self.refusal is None:
            self.run.save(folder / _CHECKPOINT)
            self.best_set.save(folder / BEST_SET)
            self.initial_set.save(folder / INITIAL_SET)
        write_json(folder / _PROGRESS, {"best": self.best})

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Go on from what ``save_checkpoint`` wrote; where that is damaged, begin again, to the same end."""
        if self.refusal is not None:
            return
        try:
            self._load(Path(checkpoint_dir))
        except (ValueError, KeyError, OSError) as error:
            print(f"The trial begins again, since its checkpoint is damaged: {error}")
            self.reset_config(self.config)

    def _load(self, folder: Path) -> None:
        self.best = read_json(folder / _PROGRESS)["best"]
        self.best_set = load_set(folder / BEST_SET)
        self.initial_set = load_set(folder / INITIAL_SET)
        self.run.load(folder / _CHECKPOINT)


def expert_epochs(count: int, registry: ActorHandle) -> dict[ExpertId, tuple[int, ...]]:
    """Return the epochs of the first ``count`` experts that a registry has."""
    index: dict[ExpertId, tuple[int, ...]] = ray.get(registry.index.remote())
    return {expert: epochs for expert, epochs in index.items() if expert < count}


def averages(seen: list[Metrics]) -> Metrics:
    """Return the mean of each metric over outer steps, for a single step's is mostly noise; none of no steps."""
    return {name: statistics.fmean(metrics[name] for metrics in seen) for name in (seen[-1] if seen else ())}


def peak_memory(device: torch.device) -> int:
    """Return the most bytes that this process has held so far: on the GPU where it uses one, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
