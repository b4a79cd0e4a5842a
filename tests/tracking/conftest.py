"""A database with MLflow's schema, which takes seconds to make and is copied."""

from pathlib import Path

import pytest

from engine.tracking.mlflow.delivery import prepare


@pytest.fixture(scope="session")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a SQLite file with the schema and no experiment of ours."""
    folder = tmp_path_factory.mktemp("schema")
    prepare(f"sqlite:///{folder / 'mlflow.db'}", experiment="schema", artifacts=folder / "artifacts")
    return folder / "mlflow.db"
