"""A Tune trial: one distillation run that is validated every few outer steps and resumes exactly."""

import math
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray import tune

from engine import build
from engine.cluster.errors import USER_ERRORS, one_sentence_errors
from engine.cluster.experts.registry import RemoteSource, expert_epochs
from engine.cluster.runtime import use_resources
from engine.config.load import assign
from engine.distill import Distillation, NonFiniteLossError
from engine.evaluation.validation import validate
from engine.initial_pairs import initial_file, initial_pairs
from engine.io.files import read_json, write_json
from engine.io.storage import Location, check_answers
from engine.methods import Metrics
from engine.peak_memory import PeakMemory
from engine.results.history import BEST_SET, FRAMES, HISTORY, History, write_history
from engine.specification import Specification
from engine.synthetic.set import load_set
from engine.tracking.time_lapse import write_frame

_CHECKPOINT = "checkpoint.safetensors"
_PROGRESS = "progress.json"


class DistillTrial(tune.Trainable):
    """A trial of a study; Tune passes the searched keys as ``config`` and calls ``step`` until it returns ``done``.

    ``folder`` is the study's. The trial's best set lies there, outside of its checkpoints, of which Tune deletes all
    but the newest two; it is replaced when a validation is better.

    A loss that is not finite, and an error of the user, end the trial with the result ``failure`` instead of an
    exception, because Tune would repeat the trial and they would come again. The user's sets ``refused``; a loss that
    is not finite sets ``diverged_at``, the number of outer steps before it, and keeps ``best``.
    """

    run: Distillation

    def setup(self, config: dict[str, Any], specification: Specification, folder: Location, cpus: float) -> None:
        """Build the run of the values in ``config``."""
        self.specification, self.folder, self.cpus = specification, folder, cpus
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Release the last run of this process with all that it has read, then build that of ``new_config``."""
        if hasattr(self, "run"):
            del self.run  # before another is built, so that memory holds one
        self.study = self.specification.study
        self.refusal: str | None = None
        self.best: dict[str, float] = {}
        self.history = History(searched=new_config)
        try:
            with one_sentence_errors(self.specification.storage):
                use_resources(self.cpus)
                self._build(new_config)
        except USER_ERRORS as error:
            self.refusal = str(error)
        return True

    def _build(self, config: dict[str, Any]) -> None:
        self.study = assign(self.study, config)
        self.setups = self.specification.setups()
        own = self.setups[0]
        self.memory = PeakMemory(own.device)
        sources = []
        for folder in (one.expert_folder() for one in self.specification.of_each_student()):
            sources.append(RemoteSource(folder, expert_epochs(folder, self.study.experts.count)))
        experts, *others = sources
        initial = initial_pairs(self.study, own, experts, self.folder / "initial")
        self.history = replace(self.history, initial=initial_file(self.study, self.folder / "initial").name)
        further = list(zip(self.setups[1:], others, strict=True))
        self.run = build.distillation(self.study, own, experts, initial, further=further)
        self.protocol = build.protocol(self.study)

    def step(self) -> dict[str, Any]:
        """Take ``evaluate_every`` outer steps and validate one student."""
        if self.refusal is not None:
            return self._failed(self.refusal, outer_step=0, refused=True)
        try:
            with one_sentence_errors(self.specification.storage):
                return self._validated_steps()
        except NonFiniteLossError as error:
            done = self.run.step
            best = {"best": self.best[self.study.budget.metric]} if self.best else {}
            costs = {"diverged_at": done, "peak_memory": self.memory.bytes()}
            return {**self._failed(str(error), outer_step=done, refused=False), **best, **costs}
        except USER_ERRORS as error:
            return self._failed(str(error), outer_step=self.run.step, refused=True)

    def _failed(self, reason: str, *, outer_step: int, refused: bool) -> dict[str, Any]:
        """Record and return a last result; its metric lets Optuna and ASHA avoid values that fail."""
        self._record(replace(self.history, failure=reason))
        metric = self.study.budget.metric
        return {metric: -1.0, "outer_step": outer_step, "failure": reason, "refused": refused, "done": True}

    def _validated_steps(self) -> dict[str, Any]:
        budget, frames = self.study.budget, self.best_file.parent / FRAMES
        if self.run.step == 0:
            write_frame(frames, self.run.synthetic.images, outer_step=0)
        started = time.perf_counter()
        steps = min(budget.evaluate_every, budget.outer_steps - self.run.step)
        seen: list[tuple[float, Metrics]] = []
        self.run.run(steps, lambda step, state, metrics: seen.append((time.time(), metrics)))
        self.run.check()
        elapsed = time.perf_counter() - started
        students = [(setup.student, setup.pairs["val"]) for setup in self.setups]
        val = validate(self.run.synthetic, students, self.protocol, seed=self.study.seed)
        if self.study.protocol.select_step == "last" or val[budget.metric] > self.best.get(budget.metric, -1.0):
            self.run.synthetic.save(self.best_file)
            self.best = {**val, "outer_step": float(self.run.step)}
        names = {name: None for _, metrics in seen for name in metrics}  # the mean, since that of one step is noisy
        means = {name: statistics.fmean(one[name] for _, one in seen if name in one) for name in names}
        numbers = {
            **val,
            **means,
            "best": self.best[budget.metric],
            "outer_step": self.run.step,
            "seconds_per_outer_step": elapsed / max(steps, 1),
            "peak_memory": self.memory.bytes(),
        }
        write_frame(frames, self.run.synthetic.images, outer_step=self.run.step)
        known = {name: float(value) for name, value in numbers.items() if value is not None and math.isfinite(value)}
        self._record(replace(self.history, validations=[*self.history.validations, known]))
        return {**numbers, "steps": seen, "done": self.run.step >= budget.outer_steps}

    def _record(self, history: History) -> None:
        """Keep a history, and write it beside the best set, where a report of a running study reads it."""
        self.history = history
        write_history(self.best_file.parent / HISTORY, history)

    @property
    def best_file(self) -> Location:
        """The file of the trial's best set."""
        return best_set_file(self.folder, self.trial_name)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the run, and the best metrics last."""
        folder = Path(checkpoint_dir)
        if self.refusal is None:
            self.run.save(folder / _CHECKPOINT)
        write_json(folder / _PROGRESS, {"best": self.best, "validations": self.history.validations})

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Continue from what ``save_checkpoint`` wrote; begin again where that or the best set is damaged."""
        if self.refusal is not None:
            return
        try:
            progress = read_json(Path(checkpoint_dir) / _PROGRESS)
            self.best = progress["best"]
            self.history = replace(self.history, validations=progress.get("validations", []))
            if self.best:
                load_set(self.best_file)
            self.run.load(Path(checkpoint_dir) / _CHECKPOINT)
        except (ValueError, KeyError, OSError) as error:
            check_answers(self.specification.storage)  # a store that is away damages nothing
            print(f"The trial begins again, since its checkpoint is damaged: {error}")
            self.reset_config(self.config)


def best_set_file(folder: Location, trial: str) -> Location:
    """Return the file of a trial's best set in the folder of its study."""
    return folder / "trials" / trial / BEST_SET
