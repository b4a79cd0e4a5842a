"""Search domains: reading, spelling, and every way to get one wrong."""

import pytest

from engine.config.search import Choice, Domain, DomainError, Range, parse, probes, spell

SHAPE = "{<kind>: [...], default: ...} where the kind is one of choice, uniform, loguniform, int, logint"

DOMAINS = [
    ({"choice": ["real", "noise"], "default": "real"}, Choice(values=("real", "noise"), default="real")),
    ({"uniform": [0, 1], "default": 0.5}, Range(low=0.0, high=1.0, default=0.5)),
    ({"loguniform": [0.01, 1.0], "default": 0.1}, Range(low=0.01, high=1.0, default=0.1, log=True)),
    ({"int": [0, 8], "default": 8}, Range(low=0, high=8, default=8, integer=True)),
    ({"logint": [1, 64], "default": 1}, Range(low=1, high=64, default=1, log=True, integer=True)),
]


@pytest.mark.parametrize(("given", "domain"), DOMAINS)
def test_reads_each_kind_and_spells_it_back(given: dict[str, object], domain: Domain) -> None:
    assert parse(given) == domain
    assert parse(spell(domain)) == domain


def test_numbers_may_be_texts_as_pyyaml_reads_them() -> None:
    assert parse({"loguniform": ["1e-3", "1e0"], "default": "1e-2"}) == Range(
        low=0.001, high=1.0, default=0.01, log=True
    )
    assert parse({"int": [1, "1e3"], "default": 10.0}) == Range(low=1, high=1000, default=10, integer=True)


def test_large_integers_keep_their_digits() -> None:
    assert parse({"int": [0, 2**60 + 1], "default": 1}).high == 2**60 + 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (3, SHAPE),
        ({}, SHAPE),
        ({"choice": [1]}, SHAPE),
        ({"choices": [1], "default": 1}, SHAPE),
        ({"choice": [1], "int": [1, 2], "default": 1}, SHAPE),
        ({"method": {"x": 1}, "default": 1}, SHAPE),
        ({3: [1], "default": 1}, SHAPE),
        ({"choice": [], "default": 1}, "choice: a list of at least one value"),
        ({"choice": "ab", "default": "a"}, "choice: a list of at least one value"),
        ({"choice": [1, 2, 1], "default": 1}, "choice: a list of different values"),
        ({"choice": [1, 2], "default": 3}, "a default that is one of the choices"),
        ({"choice": [1, 2], "default": True}, "a default that is one of the choices"),
        ({"uniform": [1], "default": 1}, "uniform: [low, high]"),
        ({"uniform": 1, "default": 1}, "uniform: [low, high]"),
        ({"uniform": [0, "x"], "default": 1}, "a finite number for low, high and default"),
        ({"uniform": [0, True], "default": 1}, "a finite number for low, high and default"),
        ({"uniform": [0, float("inf")], "default": 1}, "a finite number for low, high and default"),
        ({"uniform": [0, 10**400], "default": 1}, "a finite number for low, high and default"),
        ({"int": [0, 1.5], "default": 1}, "an integer for low, high and default"),
        ({"int": [0, 4], "default": None}, "an integer for low, high and default"),
        ({"int": [0, float("nan")], "default": 0}, "an integer for low, high and default"),
        ({"loguniform": [0, 1], "default": 1}, "loguniform: [low, high] with low above 0"),
        ({"logint": [0, 4], "default": 1}, "logint: [low, high] with low above 0"),
        ({"uniform": [1, 1], "default": 1}, "uniform: [low, high] with low below high"),
        ({"int": [4, 2], "default": 3}, "int: [low, high] with low below high"),
        ({"uniform": [0, 1], "default": 2}, "a default between 0.0 and 1.0"),
        ({"int": [0, 1], "default": -1}, "a default between 0 and 1"),
    ],
)
def test_refuses(given: object, expected: str) -> None:
    with pytest.raises(DomainError) as caught:
        parse(given)
    assert caught.value.expected == expected
    assert str(caught.value) == f"the search domain is {given!r}, expected {expected}."


def test_true_and_one_are_different_choices() -> None:
    assert parse({"choice": [1, True], "default": 1}) == Choice(values=(1, True), default=1)


def test_probes_cover_limits_and_a_value_that_is_no_integer() -> None:
    low, high, default, inner = probes(Range(low=1.0, high=8.0, default=4.0))
    assert (low, high, default) == (1.0, 8.0, 4.0)
    assert low < inner < high
    assert inner != int(inner)
    assert probes(Range(low=1, high=3, default=2, integer=True)) == (1, 3, 2)
    assert probes(Choice(values=("a", "b"), default="b")) == ("a", "b")
