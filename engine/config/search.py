"""Search domains: a list of choices or a range of numbers, each with the default of a run without a search."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class DomainError(ValueError):
    """A search domain that cannot be read; ``expected`` describes a valid one."""

    def __init__(self, given: Any, expected: str) -> None:
        super().__init__(f"the search domain is {given!r}, expected {expected}.")
        self.expected = expected


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A list of values."""

    values: tuple[Any, ...]
    default: Any


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from ``low`` to ``high``, or integers, both ends included; ``log`` samples their logarithm uniformly."""

    low: float
    high: float
    default: float
    log: bool = False
    integer: bool = False


Domain = Choice | Range
_RANGES = {"uniform": (False, False), "loguniform": (True, False), "int": (False, True), "logint": (True, True)}
"""Whether a range is logarithmic, and whether it is of integers."""
KINDS = ("choice", *_RANGES)


def parse(given: Any) -> Domain:
    """Read a domain of a space, such as ``{loguniform: [0.01, 1.0], default: 0.1}``.

    Raises:
        DomainError: it is not one kind with a default that lies in it.
    """
    kind = next((key for key in given if key != "default"), None) if isinstance(given, Mapping) else None
    if kind not in KINDS or len(given) != 2 or "default" not in given:
        raise DomainError(given, f"{{<kind>: [...], default: ...}} where the kind is one of {', '.join(KINDS)}")
    if kind == "choice":
        values, default = given["choice"], given["default"]
        if not isinstance(values, list | tuple) or not values:
            raise DomainError(given, "choice: a list of at least one value")
        if any(_same(a, b) for index, a in enumerate(values) for b in values[:index]):
            raise DomainError(given, "choice: a list of different values")
        if not any(_same(value, default) for value in values):
            raise DomainError(given, "a default that is one of the choices")
        return Choice(values=tuple(values), default=default)
    (log, integer), limits = _RANGES[kind], given[kind]
    if not isinstance(limits, list | tuple) or len(limits) != 2:
        raise DomainError(given, f"{kind}: [low, high]")
    low, high, default = (_number(value, integer=integer) for value in (*limits, given["default"]))
    if low is None or high is None or default is None:
        raise DomainError(given, f"{'an integer' if integer else 'a finite number'} for low, high and default")
    if log and low <= 0:
        raise DomainError(given, f"{kind}: [low, high] with low above 0")
    if low >= high:
        raise DomainError(given, f"{kind}: [low, high] with low below high")
    if not low <= default <= high:
        raise DomainError(given, f"a default between {low} and {high}")
    return Range(low=low, high=high, default=default, log=log, integer=integer)


def spell(domain: Domain) -> dict[str, Any]:
    """Return ``domain`` as it is written in a space; the inverse of ``parse``."""
    if isinstance(domain, Choice):
        return {"choice": list(domain.values), "default": domain.default}
    kind = next(kind for kind, form in _RANGES.items() if form == (domain.log, domain.integer))
    return {kind: [domain.low, domain.high], "default": domain.default}


def probes(domain: Domain) -> tuple[Any, ...]:
    """Return values that represent the domain: all choices, or the limits, the default and an inner number.

    The inner number is no integer, so that a field of integers refuses a domain of other numbers.
    """
    if isinstance(domain, Choice):
        return domain.values
    inner = () if domain.integer else (domain.low + (domain.high - domain.low) / math.sqrt(5),)
    return (domain.low, domain.high, domain.default, *inner)


def _number(value: Any, *, integer: bool) -> Any:
    """Return ``value`` as a number, or None if it is none; PyYAML reads ``1e-3`` as a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
        if integer:
            return int(value if isinstance(value, int) else number) if number.is_integer() else None
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _same(a: Any, b: Any) -> bool:
    """Return whether two values are equal, with true and 1 being different."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)
