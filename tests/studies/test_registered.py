"""Registered sets and the study of a run, from a real database of MLflow."""

from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from engine.results.files import write_table
from engine.results.history import BEST_SET
from engine.results.row import Row
from engine.studies.job import Job
from engine.studies.record import keep
from engine.studies.registered import job_of_run, register_set, set_location
from engine.studies.tracked import tracked
from engine.synthetic.set import SyntheticSet, load_set
from engine.tracking.mlflow.registry import Run, run_of_study
from tests.tiny import tiny_job


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Return a study with a table, a set and a run with one child, as if it had been distilled."""
    job = tiny_job(tmp_path_factory.mktemp("registered"), "seed=7", samples=3)
    synthetic = SyntheticSet(torch.rand(8, 3, 8, 8), torch.rand(8, 16), {"image": 0.1, "text": 0.1}, captions=["a"] * 8)
    job.folder.mkdir(parents=True)
    synthetic.save(job.folder / BEST_SET)
    write_table(job.folder, [Row(name="tiny", pairs=8, mean={"mean_recall": 20.0}, protocol="two epochs")])
    with tracked(job) as tracker:
        keep(tracker, job.folder / BEST_SET)
        tracker.child("a trial", key="trial/1").finish("FINISHED")
    return job


def run_of(job: Job) -> Run:
    found = run_of_study(job.mlflow_uri, "vldistill", job.key)
    assert found is not None
    return found


def words(job: Job) -> list[str]:
    return [f"storage={job.specification.storage}"]


def test_a_run_gives_back_its_study(job: Job) -> None:
    again = job_of_run(run_of(job).run_id, words(job))
    assert (again.key, again.name, again.samples, again.folder) == (job.key, "tiny", 3, job.folder)
    other = job_of_run(run_of(job).run_id, [*words(job), "seed=8"], samples=2)
    assert (other.study.seed, other.samples) == (8, 2)
    assert not other.finished


def test_a_run_that_is_none_or_no_study_is_one_sentence(job: Job, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^run 'deadbeef': MLflow at sqlite:.* knows no run with this id\.$"):
        job_of_run("deadbeef", words(job))
    client = MlflowClient(job.mlflow_uri)
    (child,) = [
        run.info.run_id
        for run in client.search_runs([client.get_run(run_of(job).run_id).info.experiment_id])
        if run.info.run_name == "a trial"
    ]
    told = rf"^run '{child}' \(a trial\) keeps no configuration.yaml, .*; it belongs to the run {run_of(job).run_id}\.$"
    with pytest.raises(ValueError, match=told):
        job_of_run(child, words(job))
    with pytest.raises(ValueError, match=r"mlflow\.db is not there, expected the database in which the study"):
        job_of_run("deadbeef", [f"storage={tmp_path}"])
    assert list(tmp_path.iterdir()) == []


def test_a_registered_set_is_fetched_by_its_name(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # the same set stays the same version
        assert register_set(job, "my set") == "models:/my set/1"
        assert capsys.readouterr().out.startswith("registered: models:/my set/1 ")
    version = MlflowClient(job.mlflow_uri).get_model_version("my set", "1")
    assert version.description.startswith("tiny, 8 pairs: mean recall 20.0 % on test; two epochs.")
    assert (version.run_id, version.tags["pairs"]) == (run_of(job).run_id, "8")
    for address in ("models:/my set/1", "models:/my set", "models:/my set/latest"):
        file = set_location(address, words=words(job))
        assert file == job.specification.storage / "registered" / "my set-1.safetensors"
        assert torch.equal(load_set(file).images, load_set(job.folder / BEST_SET).images)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("models:/my set/9", "but its versions are 1 in MLflow at"),
        ("models:/none", "but no set has this name in MLflow at"),
        ("models:/a/b/c", "expected models:/NAME or models:/NAME/VERSION"),
        ("models:/x'y/1", "expected models:/NAME or models:/NAME/VERSION"),
    ],
)
def test_an_address_of_no_set_is_one_sentence(address: str, told: str, job: Job) -> None:
    register_set(job, "my set")
    with pytest.raises(ValueError, match=told):
        set_location(address, job.specification.storage)


def test_a_name_that_mlflow_cannot_hold(job: Job) -> None:
    with pytest.raises(ValueError, match=r"^--register is 'a/b', expected letters, digits"):
        register_set(job, "a/b")
