"""One finished study, written once and only read by these tests."""

from pathlib import Path

import pytest

from engine.report.study import Study, read_study
from tests.report.studies import write_study


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Return the study of a finished folder."""
    return read_study(write_study(tmp_path_factory.mktemp("report") / "studies" / "tiny_14-0123"))


@pytest.fixture
def unfinished(tmp_path: Path) -> Study:
    """Return a study that has no table yet."""
    return read_study(write_study(tmp_path / "studies" / "tiny_14-4567", finished=False, trials=2))
