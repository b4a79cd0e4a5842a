"""A job is refused as it is made where its folders or its tracking URI are of no use, and nothing is left behind."""

from pathlib import Path

import pytest

from engine.results.row import Row
from engine.studies.job import conclude
from tests.tiny import tiny_job


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("VLDD_CACHE", "{}/file/cache", "VLDD_CACHE is '.*/file/cache', expected a folder that can be written to"),
        ("MLFLOW_TRACKING_URI", "mysql+pymysql://host/runs", "MLFLOW_TRACKING_URI is .*, whose driver pymysql is not"),
    ],
)
def test_variables_of_no_use_are_named(
    variable: str, value: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(variable, value.format(tmp_path))
    with pytest.raises(ValueError, match=f"^{told}"):
        tiny_job(tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_storage_that_is_a_file_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"^storage is '.*/file', expected a folder .* \(.*/file is no folder\)\.$"):
        tiny_job(tmp_path / "file")


def test_blanks_and_hashes_are_part_of_a_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    job = tiny_job(tmp_path / "runs #1")
    assert job.specification.storage == tmp_path / "runs #1"
    assert job.mlflow_uri == f"sqlite:///{tmp_path}/runs #1/mlflow.db"
    conclude(job, list[Row](), "last line")
    assert capsys.readouterr().out.endswith("\nlast line\n")  # no runs are there to open
