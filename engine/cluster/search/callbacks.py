"""What the driver tells of running trials: a nested MLflow run each, written as results come in, and a bar."""

from pathlib import Path
from typing import Any

from ray import tune
from tqdm import tqdm

from engine.cluster.errors import last_words
from engine.cluster.search.trial import BEST_SET, INITIAL_SET
from engine.config.load import as_yaml, assign
from engine.io.storage import Location, staged
from engine.io.terminal import echo
from engine.specification import Specification
from engine.synthetic.set import load_set
from engine.tracking import Tracker
from engine.tracking.sets import write_set_pictures


class TrialReports(tune.Callback):
    """Writes every trial's parameters, metrics and artifacts; a trial that is started again finds its run again.

    A trial's run is known by the trial's number, which a search that is resumed gives again where Tune gives new names.
    """

    def __init__(self, tracker: Tracker, specification: Specification, folder: Location, *, trials: int) -> None:
        study = specification.study
        self.tracker = tracker
        self.specification = specification
        self.study = study
        self.folder = folder
        self.validations_each = -(-study.budget.outer_steps // study.budget.evaluate_every)
        self.validations = trials * self.validations_each
        self._children: dict[str, Tracker] = {}
        self._bar: tqdm | None = None

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Open the trial's run and record what it was given."""
        chosen = assign(self.study, trial.config)
        self._child(trial).params({**chosen.model_dump(mode="json", exclude={"search", "resources"})})

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Record the numbers of one validation."""
        numbers = {
            name: float(value)
            for name, value in result.items()
            if name.startswith(("val/", "loss", "inner_lr/", "best", "seconds_per"))
        }
        self._child(trial).metrics(numbers, step=int(result.get("outer_step", result["training_iteration"])))
        self._advance(result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Keep the trial's set with its pictures, and end its run as it ended."""
        child, result = self._child(trial), trial.last_result
        self._advance(result, by=self.validations_each - result.get("training_iteration", 0))
        if trial.checkpoint is not None:
            with trial.checkpoint.as_directory() as checkpoint:
                self._keep(trial, child, Path(checkpoint))
        if "failure" in result:
            child.tags({"stopped": "by a failure", "failure": str(result["failure"])})
            child.finish("FAILED")
        else:
            early = result.get("outer_step", 0) < self.study.budget.outer_steps
            child.tags({"stopped": "early" if early else "at its end"})
            child.finish("FINISHED")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say why a trial is started again, and keep that with its run."""
        reason = failure(trial)
        self._child(trial).tags({"interrupted_by": reason})
        where = "from its last checkpoint" if trial.checkpoint is not None else "from its beginning"
        echo(f"{trial_name(trial)} goes on {where} after {reason}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say why a trial is given up, and end its run."""
        child, reason = self._child(trial), failure(trial)
        child.tags({"stopped": "by a failure", "failure": reason})
        child.finish("FAILED")
        echo(f"{trial_name(trial)} is given up after {reason}")

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _child(self, trial: Any) -> Tracker:
        name = trial_name(trial)
        if name not in self._children:
            self._children[name] = self.tracker.child(name, key=name)
        return self._children[name]

    def _keep(self, trial: Any, child: Tracker, checkpoint: Path) -> None:
        """Write the set in a checkpoint with its pictures; a trial that was refused has none."""
        if not (checkpoint / BEST_SET).exists():
            return
        with staged(self.folder / trial_name(trial)) as folder:
            (folder / "configuration.yaml").write_text(as_yaml(assign(self.study, trial.config)), encoding="utf-8")
            best, initial = load_set(checkpoint / BEST_SET), load_set(checkpoint / INITIAL_SET)
            best.save(folder / BEST_SET)
            setup = self.specification.setup(device="cpu")
            captions, texts = setup.datasets["train"].captions, setup.pairs["train"].texts
            write_set_pictures(folder, initial, best, captions=captions, texts=texts, prepare=setup.prepared_texts)
            for path in sorted(folder.iterdir()):
                child.artifact(path)

    def _advance(self, result: dict[str, Any], *, by: int = 1) -> None:
        """Move the bar; a trial that ends early takes its share of it along."""
        if self._bar is None:
            self._bar = tqdm(total=self.validations, desc="distilling", unit="validation", disable=None)
        self._bar.update(by)
        if "best" in result:
            self._bar.set_postfix_str(
                f"val mean recall {result[self.study.budget.metric]:.1f}, best {result['best']:.1f}"
            )


def trial_name(trial: Any) -> str:
    """Return the name of a trial by its number in the order of the search; the first is at the defaults."""
    return f"trial_{trial.experiment_tag.partition('_')[0]}"


def failure(trial: Any) -> str:
    """Return the type and the message of a trial's newest error.

    Tune's own copy of it on this machine is read: the one in the storage comes later, or never where that is away.
    """
    newest = Path(trial.error_file).read_text(encoding="utf-8").rpartition("Failure # ")[2]
    return last_words(newest)
