"""What ``VLDD_GPUS`` may say; that a cluster then grows is tested in tests/end_to_end."""

import pytest

from engine.cluster.autoscaling import VARIABLE, Wanted, await_gpus, wanted


@pytest.mark.parametrize(
    ("text", "found"),
    [("4", Wanted(4, None)), ("A10G:2", Wanted(2, "A10G")), ("RTX-PRO-6000:1", Wanted(1, "RTX-PRO-6000")), ("", None)],
)
def test_number_and_type_are_read(text: str, found: Wanted | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    assert wanted() == found


@pytest.mark.parametrize("text", ["0", "-1", "A10G", "A10G:", "2:A10G", "4 ", "1.5"])
def test_anything_else_is_refused_in_one_sentence(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ValueError, match=f"^{VARIABLE} is '{text}', expected a number of GPUs as in 4"):
        wanted()


def test_without_the_variable_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    await_gpus()
