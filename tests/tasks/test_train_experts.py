"""Experts alone, as a command for people and for scripts."""

import json

import pytest

from engine.experts.store import ExpertStore
from tasks import cli, train_experts
from tests.finished import Finished
from tests.tiny import words


def run(*given: str) -> int:
    return cli.run(train_experts.main, list(given), parser=train_experts.PARSER)


def test_the_experts_of_a_study_are_named_with_their_recalls(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    study, folder = words(finished.job.specification.storage), finished.job.specification.expert_folder()
    assert run(*study, "--local", "--json") == 0
    captured = capsys.readouterr()
    curves = [ExpertStore(folder).curve(expert) for expert in (0, 1)]
    recalls = [curve[2]["val/mean_recall"] for curve in curves]
    store = {"folder": str(folder), "experts": 2, "epochs": 2, "val_mean_recall": recalls}
    assert json.loads(captured.out) == {"stores": [store]}
    assert f"experts: {folder}\n" in captured.err
    assert run(*study, "--local", "--quiet") == 0
    assert capsys.readouterr() == (f"{folder}\n", "")
    assert run(*study, "--local") == 0
    assert capsys.readouterr().out.endswith(f"experts: {folder}\n")
