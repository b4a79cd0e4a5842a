"""Values, lists and names as error sentences show them."""

import json

import pytest

from engine.io.sentences import cut, listed, meant, shown


def test_values_are_cut_to_one_line() -> None:
    assert [shown(value) for value in (True, None, 1.5, "a\nb")] == ["true", "null", "1.5", r"'a\nb'"]
    assert len(shown("x" * 500)) == len(shown(bytes(500))) == len(cut("a\n" * 500)) == 80
    assert shown(10**5000) == "a int too long to print"
    assert len(shown(json.loads("[" * 900 + "]" * 900))) <= 80


def test_the_first_five_of_a_list_are_shown() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"


@pytest.mark.parametrize(
    ("name", "word"),
    [("split", None), ("Split", "split"), ("split ", "split"), ("SPLIT_", "split"), ("splits", "split"), ("id", None)],
)
def test_a_misspelt_word_is_found(name: str, word: str | None) -> None:
    assert meant(name, ("image", "split"), [name]) == word


def test_a_similar_word_beside_the_right_one_is_another() -> None:
    assert meant("splits", ("image", "split"), ["split", "splits"]) is None
    assert meant("Split", ("image", "split"), ["split", "Split"]) == "split"
