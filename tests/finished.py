"""One tiny finished study for all tests of the cluster: starting processes is most of what these tests cost."""

from dataclasses import dataclass

import pytest

from engine.results.table import Row
from engine.studies.distill import distill
from engine.studies.job import Job
from tests.tiny import tiny_job


@dataclass(frozen=True)
class Finished:
    """A job that has run, and its table."""

    job: Job
    rows: list[Row]


@pytest.fixture(scope="session")
def finished(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Return the tiny study after its run."""
    job = tiny_job(tmp_path_factory.mktemp("finished"))
    return Finished(job, distill(job))
