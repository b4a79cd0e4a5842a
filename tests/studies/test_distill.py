"""The whole job: its table, what MLflow holds of it, and what is not done twice."""

import math
import re
from pathlib import Path

import pytest
from mlflow import MlflowClient

from engine.io.files import read_json
from engine.report.drawings import of_study
from engine.report.study import read_study
from engine.results.history import BEST_SET
from engine.results.row import Row
from engine.studies.coresets import coreset_rows
from engine.studies.distill import distill
from engine.studies.job import EXPERIMENT
from tests.finished import Finished
from tests.runs import recorded, recorded_rows
from tests.tiny import EVERY, STEPS, tiny_job


def scores(rows: list[Row]) -> list[tuple[object, ...]]:
    """Return what a table says, without the time it took."""
    return [(row.name, row.pairs, row.mean, row.std, row.seeds, row.recovery, row.learning_rate) for row in rows]


def test_the_table_has_every_row(finished: Finished) -> None:
    assert [row.name for row in finished.rows] == ["tiny", "random", "herding", "all pairs"]
    assert finished.rows[0].note.startswith("distilled by bi_trajectory; TR@1 is ")
    assert [row.pairs for row in finished.rows] == [8, 8, 8, 300]
    assert finished.rows[-1].recovery == 100
    assert all(row.seconds is not None for row in finished.rows)


def test_mlflow_holds_one_run_a_study_and_one_a_trial(finished: Finished) -> None:
    [study], trials = recorded(finished.job)
    assert (study.name, study.status) == ("tiny", "FINISHED")
    assert {"configuration.yaml", "table.md", "table.csv", "table.json", BEST_SET, "report.html"} <= study.artifacts
    assert {"audit.json", "results.json", "pairs.json", "kept_and_lost.json"} <= study.artifacts
    assert study.metrics["test/mean_recall"] == finished.rows[0].mean["mean_recall"]
    assert [(trial.name, trial.status, trial.parent) for trial in trials] == [
        ("trial_1", "FINISHED", "tiny"),
        ("trial_2", "FINISHED", "tiny"),
    ]
    for trial in trials:
        assert {"configuration.yaml", BEST_SET, "before_after.png", "captions.tsv"} <= trial.artifacts
        assert trial.tags["stopped"] in ("early", "at its end")
        assert {"val/mean_recall", "loss", "best", "gradient/image", "pixel_change"} <= trial.metrics.keys()
        assert trial.tags["data set"] == "shapes"
    assert study.tags["data set"] == "shapes"


def test_mlflow_has_a_point_an_outer_step_and_only_what_was_searched(finished: Finished) -> None:
    client = MlflowClient(finished.job.mlflow_uri)
    runs = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    run = next(run for run in runs if run.info.run_name == "trial_1")
    points = client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in points] == list(range(1, STEPS + 1))
    assert [point.timestamp for point in points] == sorted(point.timestamp for point in points)
    assert all(math.isfinite(point.value) and point.value > 0 for point in points)
    searched = finished.job.study.search.keys() - {"method.init"}
    assert run.data.params.keys() == {*searched, "method.init.image", "method.init.text"}
    [used] = run.inputs.dataset_inputs
    assert used.dataset.name == "shapes"


def test_mlflow_has_a_run_for_each_row_of_the_table(finished: Finished) -> None:
    found = {run.name: run for run in recorded_rows(finished.job)}
    assert found.keys() == {"tiny, 8 pairs", "random, 8 pairs", "herding, 8 pairs", "all pairs, 300 pairs"}
    for row in finished.rows:
        run = found[f"{row.name}, {row.pairs} pairs"]
        assert run.metrics["test/mean_recall"] == row.mean["mean_recall"]
        assert (run.status, run.tags["method"], run.tags["pairs"]) == ("FINISHED", row.name, str(row.pairs))
        assert found["tiny, 8 pairs"].metrics.keys() >= run.metrics.keys() >= {"test/TR1", "test/recovery", "seconds"}
        assert run.params == {"set": row.name, "pairs": str(row.pairs)}


def test_a_finished_study_has_its_report(finished: Finished) -> None:
    page = (finished.job.folder / "report.html").read_text(encoding="utf-8")
    own = finished.rows[0]
    assert "of a student of all pairs (expert 0 after 2 epochs): 300 real pairs of train" in page
    recall = f"{own.mean['mean_recall']:.1f} ± {own.std['mean_recall']:.1f}"
    assert {recall, "trial 1", "trial 2"} <= set(re.findall(">([^<]+)<", page))
    study = read_study(finished.job.folder)
    assert [trial.history.validations[0]["outer_step"] for trial in study.trials] == [EVERY, EVERY]
    drawn = [one.name for one in of_study(study)]
    assert drawn[:4] == ["pairs", "time-lapse", "copies", "retrieval"]
    assert drawn[4:8] == ["recall-sets", "recall-bytes", "recall-seconds", "experts"]
    assert drawn[8:] == ["validations", "losses", "rates", "slices", "pair-map"]
    assert study.audit is not None
    assert study.audit.recalls is not None
    assert study.audit.recalls.queries == 100


def test_a_finished_study_is_only_shown(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    before = recorded(finished.job)
    rows = distill(finished.job)
    assert scores(rows) == scores(finished.rows)
    assert recorded(finished.job) == before
    assert capsys.readouterr().out.startswith("This study is finished")


@pytest.mark.slow
def test_the_same_seed_gives_the_same_table_and_the_same_set(finished: Finished, tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    assert job.key == finished.job.key
    assert scores(distill(job)) == scores(finished.rows)
    manifests = [
        [read_json(path)["snapshots"] for path in sorted(one.specification.expert_folder().rglob("manifest.json"))]
        for one in (finished.job, job)
    ]
    assert [manifest["2"] for manifest in manifests[1]] == [manifest["2"] for manifest in manifests[0][:2]]
    ours, theirs = (one.folder / "trials" / "trial_1" / "captions.tsv" for one in (finished.job, job))
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.slow
def test_a_study_in_which_every_trial_diverges_is_an_error(finished: Finished) -> None:
    storage = finished.job.specification.storage
    job = tiny_job(storage, "method.inner_lr.image=1e30")
    assert job.specification.expert_folder() == finished.job.specification.expert_folder()
    with pytest.raises(
        RuntimeError, match=r"^none of 2 trials gave val/mean_recall; the first: .* not finite"
    ) as caught:
        distill(job)
    assert "\n" not in str(caught.value)
    studies, trials = recorded(job)
    assert [study.status for study in studies].count("FAILED") == 1
    diverged = [trial for trial in trials if trial.status == "FAILED"]
    assert len(diverged) == 2
    assert all("is not finite" in trial.tags["failure"] for trial in diverged)
    assert not (job.folder / "table.json").exists()


def test_the_trial_at_the_defaults_took_all_steps(finished: Finished) -> None:
    [first] = sorted((finished.job.folder / "tune" / "trial_1").glob("checkpoint_*/progress.json"))[-1:]
    assert read_json(first)["best"]["outer_step"] == STEPS


def test_a_coreset_takes_its_options_and_says_so(finished: Finished, tmp_path: Path) -> None:
    words = ["baselines.coresets=[forgetting]", "baselines.options={forgetting: {direction: descending}}"]
    job = tiny_job(tmp_path, *words, "baselines.full_seeds=1")
    [least, *_] = coreset_rows(tiny_job(tmp_path, *words[:1], "baselines.full_seeds=1"), local=False)
    [most, *_] = coreset_rows(job, local=False)
    assert (least.name, most.name) == ("forgetting", "forgetting (direction descending)")
    folder = tmp_path / "coresets"
    chosen = {path.parent.name: path.read_text() for path in folder.glob("*/forgetting_8.csv")}
    assert len(set(chosen.values())) == 2
