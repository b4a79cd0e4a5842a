"""Rows of the tests of this folder."""

from engine.results.row import METRICS, Provenance, Row

HERE = Provenance(commit="35db3ea", code="c0de", versions={"torch": "2.15.0", "ray": "2.60.0"}, device="CPU, 2 threads")


def row(name: str, pairs: int, value: float, **rest: object) -> Row:
    """Return a row of three students whose recalls are ``value`` and one more and one less."""
    scores = [dict.fromkeys(METRICS, value + shift) | {"seconds": 1.0} for shift in (-1.0, 0.0, 1.0)]
    return Row.of_seeds(name, pairs, scores, **{"protocol": "heads, 100 epochs", "made_by": [HERE], **rest})


def of_students(name: str, pairs: int, *recalls: float, protocol: str = "p") -> Row:
    """Return a row with the TR@1 of single students."""
    return Row.of_seeds(name, pairs, [{"TR1": recall} for recall in recalls], protocol=protocol)
