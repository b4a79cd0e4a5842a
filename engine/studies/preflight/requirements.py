"""What the trials of a study read: how many experts, how far they are trained, and how many bytes that makes."""

from itertools import product
from typing import Any

import torch

from engine import build
from engine.config.errors import inside
from engine.config.load import Resolved, assign
from engine.config.search import probes
from engine.models.two_tower import TwoTower
from engine.rng import named_generator
from engine.tensors import MODALITIES, Modality


def experts_read(study: Resolved) -> int:
    """Return the number of experts that the trials can read; a searched number counts with its largest value."""
    domain = study.search.get("experts.count")
    return study.experts.count if domain is None else int(max(probes(domain)))


def epochs_read(study: Resolved) -> int:
    """Return the last expert epoch that any trial can read, over all values of the method's searched options."""
    searched = {key: probes(domain) for key, domain in study.search.items() if inside(key, "method")}
    usual = _last_epoch(study, {})
    matter = {k: values for k, values in searched.items() if any(_last_epoch(study, {k: v}) != usual for v in values)}
    return max(_last_epoch(study, dict(zip(matter, values, strict=True))) for values in product(*matter.values()))


def _last_epoch(study: Resolved, values: dict[str, Any]) -> int:
    return build.method(assign(study, values) if values else study).epochs()[-1]


def largest_budget(study: Resolved) -> int:
    """Return the largest number of synthetic pairs that any trial learns."""
    domain = study.search.get("method.num_pairs")
    return study.method.num_pairs if domain is None else int(max(probes(domain)))


def heaviest(study: Resolved) -> Resolved:
    """Return the study at those values of the method's searched options whose outer steps need the most memory.

    These are the largest whole numbers, of which null is the largest since it stands for all, and ``stored`` among
    gradients; whatever else is searched stays at its default.
    """
    searched = {key: probes(domain) for key, domain in study.search.items() if inside(key, "method")}
    chosen: dict[str, Any] = {key: _most(values) for key, values in searched.items() if _counts(values)}
    chosen |= {key: "stored" for key, values in searched.items() if "stored" in values}
    return assign(study, chosen) if chosen else study


def _counts(values: tuple[Any, ...]) -> bool:
    return all(value is None or (isinstance(value, int) and not isinstance(value, bool)) for value in values)


def _most(values: tuple[Any, ...]) -> int | None:
    return None if None in values else max(values)


def parameter_counts(student: TwoTower) -> dict[Modality, int]:
    """Return the number of trained parameters of each tower."""
    with torch.no_grad():
        fresh = [tower.init_params(named_generator(0, "count")) for tower in student.towers()]
    return {m: sum(v.numel() for v in params.values()) for m, params in zip(MODALITIES, fresh, strict=True)}


def snapshot_bytes(student: TwoTower) -> int:
    """Return the bytes of one expert's snapshot, whose numbers have 32 bits."""
    return 4 * sum(parameter_counts(student).values())
