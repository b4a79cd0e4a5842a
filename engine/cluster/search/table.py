"""A live table of all trials of a search."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from rich.console import Group, RenderableType

from engine.cluster.search.callbacks import stopped, trial_name
from engine.config.schema import Study
from engine.io.progress import Bar
from engine.results.trials import TrialLine, trial_table

_STATES = {Trial.RUNNING: "running", Trial.PENDING: "waiting", Trial.PAUSED: "waiting", Trial.ERROR: "failed"}
_ENDED = {"early": "stopped early", "at its end": "finished", "by a failure": "failed", "by divergence": "diverged"}


class TrialTable(tune.Callback):
    """Keeps the state of every trial, those of earlier sessions among them, and the share of all outer steps."""

    def __init__(self, study: Study, *, trials: int) -> None:
        self.study, self.lines = study, list[TrialLine]()
        self._bar = Bar("distilling", total=trials * study.budget.outer_steps, unit="outer steps")
        self._known = False
        self._results: dict[str, dict[str, Any]] = {}
        self._since: dict[str, float] = {}

    def drawn(self) -> RenderableType:
        """Return the table above a bar; the times of trials that run go on."""
        if not self.lines:
            return self._bar
        now, lines = time.monotonic(), []
        for line in self.lines:
            more = now - self._since.get(line.name, now) if line.state == "running" else 0.0
            lines.append(replace(line, seconds=line.seconds + more))
        budget = self.study.budget
        return Group(trial_table(lines, outer_steps=budget.outer_steps, metric=budget.metric), self._bar)

    def line(self) -> str:
        """Return the share of all outer steps and the best trial so far as a sentence, for a file."""
        best = max((line.best for line in self.lines if line.best is not None), default=None)
        metric = self.study.budget.metric
        return self._bar.line() + ("" if best is None else f"; best {metric} {best:.2f}")

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Show that a trial runs."""
        self._since[trial_name(trial)] = time.monotonic()
        self._update(trials, trial, "running")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Show a validation."""
        self._since[trial_name(trial)], self._results[trial_name(trial)] = time.monotonic(), result
        self._update(trials, trial, "running")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Show how a trial ended."""
        self._update(trials, trial, None)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Show that a trial waits for its restart."""
        self._update(trials, trial, "waiting")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Show that a trial is given up."""
        self._update(trials, trial, "failed")

    def _update(self, trials: Sequence[Any], moved: Any, state: str | None) -> None:
        """Read the states of all trials, except for the trial ``moved``, whose new ``state`` Tune does not show yet.

        ``state`` None: it has ended.
        """
        self.lines = [self._line(one, state if one is moved else _STATES.get(one.status)) for one in trials]
        steps = self.study.budget.outer_steps
        done = sum(line.outer_step if line.state in ("running", "waiting") else steps for line in self.lines)
        (self._bar.move if self._known else self._bar.begin)(done)  # the steps of earlier sessions
        self._known = True

    def _line(self, trial: Any, state: str | None) -> TrialLine:
        result = self._results.get(trial_name(trial)) or (trial.last_result if trial.status == Trial.TERMINATED else {})
        return TrialLine(
            trial_name(trial),
            state or _ENDED[stopped(result, self.study.budget.outer_steps)],
            outer_step=result.get("outer_step", 0),
            recall=None if "failure" in result else result.get(self.study.budget.metric),
            best=result.get("best"),
            searched=trial.config,
            seconds=result.get("time_total_s", 0.0),
        )
