"""Requirements of a study's trials: experts, epochs, pairs, and the bytes of a snapshot."""

from itertools import product
from operator import attrgetter
from typing import Any

import torch

from engine import build
from engine.config.errors import inside
from engine.config.load import assign
from engine.config.schema import Resolved
from engine.config.search import probes
from engine.methods import Method
from engine.models.two_tower import TwoTower
from engine.rng import named_generator
from engine.tensors import MODALITIES, Modality

BATCH_SIZES = ("inner_batch", "batch", "real_batch")
"""Options of methods that hold a number of pairs."""


def largest(study: Resolved, key: str) -> int:
    """Return the largest integer that a trial can have for ``key``, which may be searched."""
    domain = study.search.get(key)
    return int(attrgetter(key)(study) if domain is None else max(probes(domain)))


def epochs_read(study: Resolved) -> int:
    """Return the last expert epoch that a trial can read, over all combinations of searched options."""

    def last(values: dict[str, Any]) -> int:
        return build.method(assign(study, values) if values else study).epochs()[-1]

    matter = [
        [(key, value) for value in values]
        for key, values in _searched_options(study).items()
        if {last({key: value}) for value in values} != {last({})}
    ]
    return max(last(dict(combination)) for combination in product(*matter))


def heaviest(study: Resolved) -> Resolved:
    """Return the study at the searched options of its method whose outer step needs the most memory.

    These are the largest integers (null counts as the largest: it stands for all pairs) and the gradient ``stored``;
    other searched keys keep their defaults.
    """
    chosen: dict[str, Any] = {}
    for key, values in _searched_options(study).items():
        if all(value is None or type(value) is int for value in values):
            chosen[key] = None if None in values else max(values)
        elif "stored" in values:
            chosen[key] = "stored"
    return assign(study, chosen) if chosen else study


def _searched_options(study: Resolved) -> dict[str, tuple[Any, ...]]:
    return {key: probes(domain) for key, domain in study.search.items() if inside(key, "method")}


def pairs_per_step(method: Method) -> int:
    """Return the number of synthetic pairs in one inner step of a method, or in its outer step if it has no others."""
    given = next((int(getattr(method, name)) for name in BATCH_SIZES if getattr(method, name, None)), method.num_pairs)
    return min(given, method.num_pairs)


def parameter_counts(student: TwoTower) -> dict[Modality, int]:
    """Return the number of trained parameters of each tower."""
    with torch.no_grad():
        fresh = [tower.init_params(named_generator(0, "count")) for tower in student.towers()]
    return {m: sum(v.numel() for v in params.values()) for m, params in zip(MODALITIES, fresh, strict=True)}


def snapshot_bytes(student: TwoTower) -> int:
    """Return the bytes of one snapshot of an expert, in float32."""
    return 4 * sum(parameter_counts(student).values())
