"""The live table of a search, drawn on a console at every event of real trials."""

import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from engine.cluster.search import tuner
from engine.cluster.search.callbacks import TrialReports
from engine.cluster.search.table import TrialTable
from tests.cluster.test_callbacks import Notebook
from tests.cluster.test_search import CLUSTER, Damaging
from tests.finished import Finished
from tests.tiny import STEPS


class Watched(TrialTable):
    """A table that is printed as text whenever it changes."""

    texts: list[str]

    def _update(self, *arguments: Any) -> None:
        super()._update(*arguments)
        console = Console(width=160)
        with console.capture() as captured:
            console.print(self.drawn())
        self.texts.append(captured.get())


def lines(text: str) -> dict[str, list[str]]:
    """Return the cells of every trial by its name."""
    return {line.split()[0]: re.split(r"\s{2,}", line.strip())[1:] for line in text.splitlines() if "trial_" in line}


def test_the_table_follows_trials_through_restarts_to_their_ends(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    monkeypatch.setattr(Watched, "texts", texts, raising=False)
    monkeypatch.setattr(tuner, "TrialTable", Watched)
    monkeypatch.setattr(tuner, "DistillTrial", Damaging)  # whose first process dies at outer step 4
    specification = finished.job.specification
    chosen = tuner.plan({"cpu": 2.0, "gpu": 0.0}, CLUSTER, 2)
    ranked = tuner.search(specification, chosen, tmp_path, TrialReports(Notebook(), specification, tmp_path))

    assert lines(texts[0])["trial_1"][:4] == ["running", f"0/{STEPS}", "-", "-"]
    first = [lines(text)["trial_1"] for text in texts]
    moves = [(cells[0], cells[1].split("/")[0]) for cells in first]
    restart = moves.index(("waiting", "4"))
    assert {("running", "2"), ("running", "4")} <= set(moves[:restart])
    after = next(move for move in moves[restart:] if move[0] == "running")
    assert after == ("running", "4"), "what it has reported stays until it reports again"
    assert moves[-1] == ("finished", str(STEPS))
    ended = lines(texts[-1])
    for one in ranked:
        cells = ended[one.best_file.parent.name]
        assert cells[1] == f"{one.metrics['outer_step']}/{STEPS}"
        assert float(cells[3]) == pytest.approx(one.metrics["best"], abs=0.051)
        assert f"inner_lr.image {one.metrics['config']['method.inner_lr.image']:.3g}, " in cells[-1]
    assert list(ended) == [one.best_file.parent.name for one in ranked], "best first"
    assert {cells[0] for cells in ended.values()} <= {"finished", "stopped early"}
    assert f"{2 * STEPS}/{2 * STEPS} outer steps" in texts[-1]
