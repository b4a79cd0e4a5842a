"""Searches in which a checkpoint is damaged, and studies whose trials diverge."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import GetTimeoutError
from ray.tune.schedulers import TrialScheduler

from engine.cluster.runtime import Cluster
from engine.cluster.search import tuner
from engine.cluster.search.callbacks import TrialReports
from engine.cluster.search.trial import DistillTrial
from engine.io.files import read_json
from engine.results.history import BEST_SET
from engine.studies.distill import distill
from engine.studies.preflight.checks import CHECKPOINTS
from engine.synthetic.set import load_set
from tests.cluster.test_callbacks import Notebook
from tests.cluster.test_trial import same
from tests.finished import Finished
from tests.runs import recorded
from tests.tiny import EVERY, STEPS, tiny_job

CLUSTER = Cluster(joined=False, cpus=2, gpus=0, object_store_bytes=300 * 2**20)


class Damaging(DistillTrial):
    """A trial whose process dies once, after the second validation of ``trial_1``, and leaves damaged checkpoints."""

    def step(self) -> dict[str, Any]:
        mark = self.folder / "damaged"
        if self.trial_name == "trial_1" and self.run.step == 2 * EVERY and not mark.exists():
            mark.touch()
            for file in (self.folder / "tune" / "trial_1").glob("checkpoint_*/checkpoint.safetensors"):
                file.write_bytes(file.read_bytes()[:9])
            os._exit(1)
        return super().step()


class Unanswered(DistillTrial):
    """A trial whose first process gives up the registry."""

    def _build(self, config: dict[str, Any]) -> None:
        mark = self.folder / "unanswered"
        if not mark.exists():
            mark.write_text(str(os.getpid()))
            raise GetTimeoutError("the registry does not answer")
        super()._build(config)
        (self.folder / "answered").write_text(str(os.getpid()))


def best(folder: Path, trial: str) -> dict[str, float]:
    """Return the metrics of a trial's best set, with its outer step, by the trial's last checkpoint."""
    metrics: dict[str, float] = read_json(max((folder / "tune" / trial).glob("checkpoint_*/progress.json")))["best"]
    return metrics


def test_a_search_with_a_damaged_checkpoint_ends_as_an_undisturbed_one(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuner, "DistillTrial", Damaging)
    job, notebook = finished.job, Notebook()
    chosen = tuner.plan({"cpu": 2.0, "gpu": 0.0}, CLUSTER, 2)
    reports = TrialReports(notebook, job.specification, tmp_path)
    found = tuner.search(job.specification, chosen, tmp_path, reports)
    assert (tmp_path / "damaged").exists()
    assert "interrupted_by" in notebook.children["trial_1"].told
    for trial in ("trial_1", "trial_2"):
        assert best(tmp_path, trial) == best(job.folder, trial)
        ours, theirs = (folder / "trials" / trial / BEST_SET for folder in (tmp_path, job.folder))
        assert same(dict(load_set(ours).state_dict()), dict(load_set(theirs).state_dict()))
    assert [one.metrics["outer_step"] for one in found if one.best_file.parent.name == "trial_1"] == [STEPS]


def test_a_trial_without_an_answer_begins_again_in_another_process(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuner, "DistillTrial", Unanswered)
    specification = finished.job.specification
    chosen = tuner.plan({"cpu": 2.0, "gpu": 0.0}, CLUSTER, 1)
    [only] = tuner.search(specification, chosen, tmp_path, TrialReports(Notebook(), specification, tmp_path))
    assert only.metrics["outer_step"] == STEPS
    assert (tmp_path / "answered").read_text() != (tmp_path / "unanswered").read_text()


def test_a_trial_that_diverges_after_a_validation_gives_the_study_its_best_set(ray_local: None, tmp_path: Path) -> None:
    job = tiny_job(tmp_path, "optimiser.text_lr=1e18", samples=1)
    [own, *_] = distill(job)
    [run] = [run for run in recorded(job)[1] if run.tags.get("diverged_at")]
    step = int(run.tags["diverged_at"])
    assert EVERY <= step < STEPS
    assert own.note.startswith(f"diverged at outer step {step};")
    assert (run.status, run.tags["stopped"]) == ("FINISHED", "by divergence")
    assert f"the loss of outer step {step} is not finite" in run.tags["failure"]
    assert {"configuration.yaml", BEST_SET, "before_after.png", "captions.tsv"} <= run.artifacts
    assert run.metrics["best"] == best(job.folder, "trial_0")["val/mean_recall"] > 0
    assert (job.folder / BEST_SET).read_bytes() == (job.folder / "trials" / "trial_0" / BEST_SET).read_bytes()


def test_a_trial_that_diverged_is_ranked_with_the_others(finished: Finished, tmp_path: Path) -> None:
    results: list[Any] = [
        SimpleNamespace(error=None, path=str(tmp_path / "tune" / name), metrics=metrics)
        for name, metrics in {
            "trial_1": {"best": 20.0},
            "trial_2": {"best": 30.0, "failure": "the loss is not finite", "diverged_at": 4},
            "trial_3": {"failure": "the loss is not finite", "diverged_at": 0},
        }.items()
    ]
    ranked = tuner._ranked(results, finished.job.study, tmp_path)
    assert [one.best_file.parent.name for one in ranked] == ["trial_2", "trial_1"]
    with pytest.raises(RuntimeError, match="none of 1 trials gave val/mean_recall; the first: the loss is not finite"):
        tuner._ranked(results[2:], finished.job.study, tmp_path)


def test_the_clock_of_the_scheduler_is_the_outer_step(finished: Finished) -> None:
    """A trial that began again has Tune's restored count of results, which is ahead of its outer step."""
    study, trial = finished.job.study, SimpleNamespace(trial_id="a")
    scheduler = tuner._scheduler(study)
    scheduler.set_search_properties(study.budget.metric, "max")
    scheduler.on_trial_add(None, trial)
    result = {study.budget.metric: 10.0, "outer_step": EVERY, "training_iteration": STEPS // EVERY}
    assert scheduler.on_trial_result(None, trial, result) == TrialScheduler.CONTINUE
    assert scheduler.on_trial_result(None, trial, {**result, "outer_step": STEPS}) == TrialScheduler.STOP


def test_as_many_checkpoints_are_kept_as_are_counted_before(finished: Finished) -> None:
    trials = (finished.job.folder / "tune").glob("trial_*")
    assert max(len(list(trial.glob("checkpoint_*"))) for trial in trials) == CHECKPOINTS
