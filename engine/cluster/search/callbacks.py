"""Reports of running trials on the driver: one nested tracker run for each trial."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune

from engine.cluster.errors import last_line_of_traceback
from engine.cluster.search.trial import best_set_file
from engine.config.load import as_yaml, assign
from engine.initial_pairs import initial_file, read_initial_pairs
from engine.io.progress import echo
from engine.io.storage import Location, check_answers, staged
from engine.provenance import commit, versions
from engine.specification import Specification
from engine.synthetic.set import SyntheticSet, load_set
from engine.tensors import MODALITIES
from engine.tracking import Point, Tracker
from engine.tracking.pictures import BEFORE_AFTER, CAPTIONS, write_set_pictures

_REPORTED = ("val/", "best", "seconds_per", "peak_memory")


class TrialReports(tune.Callback):
    """Records parameters, metrics and files of each trial in a tracker run.

    A trial finds its run again by its number, which stays the same when a search is resumed, unlike Tune's names.
    ``folder`` is the study's. A trial that fails while the storage is away ends the search with a ``StorageError``,
    since all other attempts would fail too.
    """

    def __init__(self, tracker: Tracker, specification: Specification, folder: Location) -> None:
        self.tracker, self.specification, self.folder = tracker, specification, folder
        self.study = specification.study
        self._children: dict[str, Tracker] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Open the trial's run and record what was searched and what follows from it; the study's run has the rest."""
        own = assign(self.study, trial.config).model_dump(mode="json", exclude={"search", "resources"})
        self._child(trial).params(trial.config | _differing(own, self.study.model_dump(mode="json")))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Record the metrics of one validation and of the outer steps before it; a failure has none."""
        if "failure" in result:
            return
        last = int(result["outer_step"])
        numbers = {name: float(value) for name, value in result.items() if name.startswith(_REPORTED)}
        self._child(trial).metrics(numbers, step=last)
        seen = result["steps"]
        numbered = enumerate(seen, start=last - len(seen) + 1)
        self._child(trial).curve([Point(step, time, numbers) for step, (time, numbers) in numbered])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Keep the trial's best set and its pictures, then end the run with the reason why the trial stopped."""
        child, result = self._child(trial), trial.last_result
        if "best" in result:
            self._keep(trial, child)
        details = {name: str(result[name]) for name in ("failure", "diverged_at") if name in result}
        child.tags({"stopped": stopped(result, self.study.budget.outer_steps)} | details)
        child.finish("FINISHED" if "best" in result else "FAILED")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Print and record why a trial is restarted."""
        reason = failure(trial)
        self._child(trial).tags({"interrupted_by": reason})
        where = "from its last checkpoint" if trial.checkpoint is not None else "from its beginning"
        echo(f"{trial_name(trial)} goes on {where} after {reason}")
        check_answers(self.specification.storage)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Print why a trial is given up, and end its run."""
        child, reason = self._child(trial), failure(trial)
        child.tags({"stopped": "by a failure", "failure": reason})
        child.finish("FAILED")
        echo(f"{trial_name(trial)} is given up after {reason}")
        check_answers(self.specification.storage)

    def _child(self, trial: Any) -> Tracker:
        name = trial_name(trial)
        if name not in self._children:
            self._children[name] = self.tracker.child(name, key=name)
        return self._children[name]

    def _keep(self, trial: Any, child: Tracker) -> None:
        """Write the trial's configuration and pictures beside its best set, and copy all of them to the tracker.

        The set gets its captions, and the code and weights that made it.
        """
        study, best_file = assign(self.study, trial.config), best_set_file(self.folder, trial_name(trial))
        best = load_set(best_file)
        images, texts, _ = read_initial_pairs(initial_file(study, self.folder / "initial"))
        setup = self.specification.setup(device="cpu")
        best.captions = setup.nearest_words(best.texts)
        best.metadata["made_by"] = {"commit": commit(), "versions": versions(), "weights": setup.weights}
        with staged(best_file.parent) as folder:
            (folder / "configuration.yaml").write_text(as_yaml(study), encoding="utf-8")
            best.save(folder / best_file.name)
            write_set_pictures(
                folder,
                SyntheticSet(images, texts, dict.fromkeys(MODALITIES, 1.0)),
                best,
                captions=setup.datasets["train"].captions,
                texts=setup.pairs["train"].texts,
                prepare=setup.prepared_texts,
            )
            for name in ("configuration.yaml", best_file.name, BEFORE_AFTER, CAPTIONS):
                child.artifact(folder / name)


def _differing(values: dict[str, Any], others: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the entries of a nested mapping that another one lacks or has with another value, by dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        other = others.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            found |= _differing(value, other, f"{prefix}{key}.")
        elif value != other:
            found[f"{prefix}{key}"] = value
    return found


def trial_name(trial: Any) -> str:
    """Return a trial's name by its number in the search, from 1; in a search, the first trial has the defaults."""
    return f"trial_{trial.experiment_tag.partition('_')[0]}"


def stopped(result: Mapping[str, Any], outer_steps: int) -> str:
    """Return why a trial stopped, by its last result; ``outer_steps`` are those of a trial that runs to its end."""
    if "diverged_at" in result:
        return "by divergence"
    if "failure" in result:
        return "by a failure"
    return "early" if result.get("outer_step", 0) < outer_steps else "at its end"


def failure(trial: Any) -> str:
    """Return the type and the message of a trial's newest error, from Tune's file on this machine.

    The copy in the storage arrives later, and not at all where the storage is away.
    """
    newest = Path(trial.error_file).read_text(encoding="utf-8").rpartition("Failure # ")[2]
    return last_line_of_traceback(newest)
