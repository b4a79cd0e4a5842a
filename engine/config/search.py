"""The domains of a search as plain values: a kind, its limits, and the default that a run without a search uses."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


class DomainError(ValueError):
    """A search domain that cannot be read; ``expected`` says what was expected in its place."""

    def __init__(self, given: Any, expected: str) -> None:
        super().__init__(f"the search domain is {given!r}, expected {expected}.")
        self.expected = expected


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of a few values."""

    values: tuple[Any, ...]
    default: Any


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """A number between ``low`` and ``high``."""

    low: float
    high: float
    default: float


@dataclass(frozen=True, kw_only=True)
class LogUniform:
    """A number between ``low`` and ``high`` whose logarithm is drawn uniformly."""

    low: float
    high: float
    default: float


@dataclass(frozen=True, kw_only=True)
class Int:
    """An integer from ``low`` to ``high``, both included."""

    low: int
    high: int
    default: int


@dataclass(frozen=True, kw_only=True)
class LogInt:
    """An integer from ``low`` to ``high``, both included, whose logarithm is drawn uniformly."""

    low: int
    high: int
    default: int


Domain = Choice | Uniform | LogUniform | Int | LogInt
Kind = Literal["choice", "uniform", "loguniform", "int", "logint"]

_RANGES: dict[str, type[Uniform] | type[LogUniform] | type[Int] | type[LogInt]] = {
    "uniform": Uniform,
    "loguniform": LogUniform,
    "int": Int,
    "logint": LogInt,
}
KINDS: tuple[str, ...] = ("choice", *_RANGES)


def parse(given: Any) -> Domain:
    """Read a domain as a space spells it, such as ``{loguniform: [0.01, 1.0], default: 0.1}``.

    Raises:
        DomainError: it is not one kind with a default that belongs to it.
    """
    shape = f"{{<kind>: [...], default: ...}} where the kind is one of {', '.join(KINDS)}"
    if not isinstance(given, Mapping) or len(given) != 2 or "default" not in given:
        raise DomainError(given, shape)
    kind = next(key for key in given if key != "default")
    if kind not in KINDS:
        raise DomainError(given, shape)
    return _choice(given) if kind == "choice" else _range(given, kind)


def spell(domain: Domain) -> dict[str, Any]:
    """Return ``domain`` as a space spells it; the opposite of ``parse``."""
    if isinstance(domain, Choice):
        return {"choice": list(domain.values), "default": domain.default}
    kind = next(kind for kind, cls in _RANGES.items() if isinstance(domain, cls))
    return {kind: [domain.low, domain.high], "default": domain.default}


def probes(domain: Domain) -> tuple[Any, ...]:
    """Return values that stand for the whole domain: all choices, or the limits and an inner value.

    The inner value of a domain of numbers is not an integer, so that a field of integers refuses such a domain.
    """
    if isinstance(domain, Choice):
        return domain.values
    if isinstance(domain, Int | LogInt):
        return (domain.low, domain.high, domain.default)
    inner = domain.low + (domain.high - domain.low) / math.sqrt(5)
    return (domain.low, domain.high, domain.default, inner)


def _choice(given: Mapping[str, Any]) -> Choice:
    """Read the values of a choice."""
    values, default = given["choice"], given["default"]
    if not isinstance(values, list | tuple) or not values:
        raise DomainError(given, "choice: a list of at least one value")
    if any(_same(a, b) for index, a in enumerate(values) for b in values[:index]):
        raise DomainError(given, "choice: a list of different values")
    if not any(_same(value, default) for value in values):
        raise DomainError(given, "a default that is one of the choices")
    return Choice(values=tuple(values), default=default)


def _range(given: Mapping[str, Any], kind: str) -> Domain:
    """Read the two limits and the default of a range."""
    whole, logarithmic = kind in ("int", "logint"), kind in ("loguniform", "logint")
    number = "an integer" if whole else "a finite number"
    limits = given[kind]
    if not isinstance(limits, list | tuple) or len(limits) != 2:
        raise DomainError(given, f"{kind}: [low, high]")
    low, high, default = (_number(value, whole=whole) for value in (*limits, given["default"]))
    if low is None or high is None or default is None:
        raise DomainError(given, f"{number} for low, high and default")
    if logarithmic and low <= 0:
        raise DomainError(given, f"{kind}: [low, high] with low above 0")
    if low >= high:
        raise DomainError(given, f"{kind}: [low, high] with low below high")
    if not low <= default <= high:
        raise DomainError(given, f"a default between {low} and {high}")
    return _RANGES[kind](low=low, high=high, default=default)


def _number(value: Any, *, whole: bool) -> Any:
    """Return ``value`` as a number, or None when it is none; PyYAML reads ``1e-3`` as a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
        if whole:
            return int(value if isinstance(value, int) else number) if number.is_integer() else None
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _same(a: Any, b: Any) -> bool:
    """Whether two values are equal, true and 1 being different."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)
