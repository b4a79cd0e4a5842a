"""What a person looks for in MLflow's pages of a study: runs, recalls as columns, comparisons, curves, the report."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from engine.studies.job import EXPERIMENT, Job
from engine.tracking.mlflow.registry import run_of_study
from engine.tracking.mlflow.uri import database_file, page
from tests.chromium import PATIENCE_S, needs_chromium
from tests.finished import Finished
from tests.tiny import STEPS
from tests.tracking.pages import Pages, served

pytestmark = [needs_chromium, pytest.mark.timeout(600)]

TABLE = ("all pairs, 300 pairs", "herding, 8 pairs", "random, 8 pairs", "tiny, 8 pairs")
ROWS = (*TABLE, "trial_2", "trial_1")
"""The runs below the study as the list shows them, newest first."""
SEARCHED = ["method.init.image", "method.init.text", "method.inner_lr.image", "method.inner_lr.text"]


def alone(job: Job, folder: Path) -> str:
    """Return the URI of a copy of the job's database that shows the runs of its study alone.

    Other tests score the set of the same study, resume it and record what they do.
    """
    database = folder / "mlflow.db"
    original = database_file(job.mlflow_uri)
    assert original is not None
    shutil.copyfile(original, database)
    client = MlflowClient(uri := f"sqlite:///{database}")
    study = run_of_study(uri, EXPERIMENT, job.key)
    assert study is not None
    for run in client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id]):
        if study.run_id not in (run.info.run_id, run.data.tags.get("mlflow.parentRunId")):
            client.delete_run(run.info.run_id)
    return uri


@pytest.fixture(scope="module")
def pages(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """Serve the finished study, and open its runs with those of its trials and rows."""
    lines = page(alone(finished.job, tmp_path_factory.mktemp("mlflow")), EXPERIMENT)
    with served(lines, "tiny", tmp_path_factory.mktemp("chromium")) as pages:
        yield pages


def test_the_list_has_runs_by_name_and_recalls_as_columns(pages: Pages, finished: Finished) -> None:
    tab = pages.tab
    assert "Evaluation runs" not in tab.wait("Model training", *ROWS), "a page for agents, not for training"
    assert "7 matching runs" in tab.wait("matching runs")
    pages.add_columns(["test/mean_recall", "test/recovery"])
    heads = tab.run("[...document.querySelectorAll('.ag-header-cell')].map((one) => one.innerText)")
    assert heads[-2:] == ["test/mean_recall", "test/recovery"]
    lines = tab.run("[...document.querySelectorAll('.ag-center-cols-container .ag-row')].map((one) => one.innerText)")
    shown = [[float(cell) for cell in line.split("\n")[-2:]] for line in lines[:5]]
    rows = (finished.rows[0], *reversed(finished.rows))  # the study's own run has the numbers of its set, too
    assert shown == [pytest.approx([row.mean["mean_recall"], row.recovery]) for row in rows]
    assert all("shapes (" in line for line in lines)


def test_the_comparison_of_trials_shows_what_was_searched(pages: Pages) -> None:
    tab = pages.tab
    pages.compare(["trial_1", "trial_2"])
    said = tab.wait("Comparing 2 Runs from 1 Experiment", "Run details", "trial_1", "trial_2", "val/mean_recall")
    axes = "[...document.querySelectorAll('.js-plotly-plot text')].map((one) => one.textContent)"
    tab.wait(until=f"{axes}.includes('method.inner_lr.image')")
    assert {"method.inner_lr.image", "method.inner_lr.text", "val/mean_recall"} <= set(tab.run(axes))
    settings = said.split("Parameters\nShow diff only\n")[1].split("Metrics\n")[0].splitlines()
    assert [line.split("\t")[0] for line in settings if line] == SEARCHED


def test_the_comparison_of_rows_is_the_table(pages: Pages, finished: Finished) -> None:
    tab = pages.tab
    pages.compare(TABLE)
    said = tab.wait("Comparing 4 Runs from 1 Experiment", "Run details", "test/recovery", *TABLE)
    settings, numbers = said.split("Parameters\nShow diff only\n")[1].split("Metrics\nShow diff only\n")
    rows = finished.rows[::-1]
    assert [line.split("\t") for line in settings.splitlines() if line] == [
        ["pairs", *(str(row.pairs) for row in rows)],
        ["set", *(row.name for row in rows)],
    ]
    lines = numbers.splitlines()  # all names, then all numbers
    last = lines.index("test_std/mean_recall")
    names, cells = lines[: last + 1], lines[last + 1 :]
    recalls, recoveries = (
        cells[len(rows) * names.index(f"test/{name}") :][: len(rows)] for name in ("mean_recall", "recovery")
    )
    assert [float(cell) for cell in recalls] == [pytest.approx(row.mean["mean_recall"], abs=0.01) for row in rows]
    assert [float(cell) for cell in recoveries] == [pytest.approx(row.recovery, abs=0.01) for row in rows]


def test_a_trial_has_a_curve_with_a_point_a_step(pages: Pages) -> None:
    tab = pages.tab
    pages.runs()
    tab.click("trial_1")
    tab.click("Model metrics")
    tab.wait("trial_1 (gradient/image)", until="document.querySelectorAll('.scatterlayer .points path').length")
    assert tab.run("document.querySelector('.js-plotly-plot').querySelectorAll('.points path').length") == STEPS


def test_the_report_of_a_study_is_shown_among_its_artifacts(pages: Pages) -> None:
    tab = pages.tab
    pages.runs()
    tab.click("tiny")
    tab.click("Artifacts")
    tab.wait("configuration.yaml", "table.csv", "synthetic_set.safetensors")
    tab.click("report.html")
    end = time.monotonic() + PATIENCE_S
    while "Recalls on test in percent" not in tab.everything():
        assert time.monotonic() < end
        time.sleep(0.1)
