"""Reports of trials that fail, in a search by Tune alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from engine.cluster.search.callbacks import TrialReports
from engine.cluster.search.noise import quiet
from engine.tracking import Data, Point
from tests.finished import Finished


class Failing(tune.Trainable):
    """A trial that takes one step, and can take no other."""

    def step(self) -> dict[str, Any]:
        if self.iteration:
            raise OSError("the disk\nsaid no.")
        return {"val/mean_recall": 1.0, "best": 1.0, "outer_step": 2, "steps": [], "done": False}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        (Path(checkpoint_dir) / "state").touch()

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        assert (Path(checkpoint_dir) / "state").exists()


class Notebook:
    """A tracker that keeps tags, statuses and names of files in memory."""

    def __init__(self) -> None:
        self.told: dict[str, str] = {}
        self.files: list[str] = []
        self.children: dict[str, Notebook] = {}

    def child(self, name: str, key: str) -> "Notebook":
        return self.children.setdefault(key, Notebook())

    def params(self, values: Mapping[str, Any]) -> None:
        pass

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        pass

    def curve(self, points: Sequence[Point]) -> None:
        pass

    def data(self, data: Data) -> None:
        pass

    def table(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        pass

    def tags(self, values: Mapping[str, str]) -> None:
        self.told |= values

    def artifact(self, path: Path) -> None:
        self.files.append(path.name)

    def finish(self, status: str) -> None:
        self.told["status"] = status


def test_a_trial_that_fails_tells_its_error(
    finished: Finished, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    notebook = Notebook()
    reports = TrialReports(notebook, finished.job.specification, tmp_path)
    with quiet():
        tune.run(
            Failing,
            name="failing",
            storage_path=str(tmp_path),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
            callbacks=[reports],
            max_failures=1,
            raise_on_failed_trial=False,
            verbose=0,
        )
    [trial] = notebook.children.values()
    assert trial.told == {
        "interrupted_by": "OSError: the disk said no.",
        "stopped": "by a failure",
        "failure": "OSError: the disk said no.",
        "status": "FAILED",
    }
    told = capfd.readouterr()
    assert told.out.splitlines() == [
        "trial_0 goes on from its last checkpoint after OSError: the disk said no.",
        "trial_0 is given up after OSError: the disk said no.",
    ]
    assert "Traceback" not in told.err
