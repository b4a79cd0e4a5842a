"""The sentence above the table of a finished study."""

import pytest

from engine.results.row import Provenance
from engine.studies import finished
from engine.studies.finished import finished_sentence
from tests.results.rows import HERE, row


def test_a_finished_study_of_other_code_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished, "provenance", lambda: {"commit": "1234567", "numbers": "5ad"})
    ours = Provenance(commit="1234567", numbers="5ad")
    assert finished_sentence([row("a", 5, 1.0, made_by=[ours])]).startswith("This study is finished, and this is its")
    assert finished_sentence([row("a", 5, 1.0, made_by=[ours]), row("b", 5, 1.0, made_by=[HERE])]) == (
        "This study is finished; its table was computed by 35db3ea, this is 1234567 (--fresh computes it again)."
    )
    assert "computed by a commit not recorded, this is" in finished_sentence([row("a", 5, 1.0, made_by=[Provenance()])])
