"""Every default has one value: that of a configuration is that of the library."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from engine.config import schema, student
from engine.config.strict import Strict
from engine.distill import Distillation, outer_optimiser
from engine.evaluation.full_data import train_on_everything
from engine.evaluation.protocol import Protocol
from engine.evaluation.student import StudentRecipe
from engine.experts.train import ExpertRecipe
from engine.models.lora import Lora
from engine.models.two_tower import TwoTower

PAIRS: list[tuple[type, Callable[..., Any], Mapping[str, str]]] = [
    (schema.Protocol, StudentRecipe, {}),
    (schema.Protocol, Protocol, {}),
    (schema.Experts, ExpertRecipe, {}),
    (schema.Optimiser, outer_optimiser, {}),
    (schema.Optimiser, Distillation, {}),
    (schema.Student, TwoTower, {}),
    (schema.Baselines, train_on_everything, {"full_epochs": "max_epochs", "warmup_epochs": "forgetting_epochs"}),
]


def defaults(kind: Callable[..., Any]) -> dict[str, Any]:
    """Return the defaults of a dataclass, a model or a function."""
    if isinstance(kind, type) and issubclass(kind, Strict):
        fields = {name: field for name, field in kind.model_fields.items() if not field.is_required()}
        return {name: field.get_default(call_default_factory=True) for name, field in fields.items()}
    if dataclasses.is_dataclass(kind):
        return {f.name: f.default for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING}
    parameters = inspect.signature(kind).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


@pytest.mark.parametrize(("section", "library", "renamed"), PAIRS)
def test_defaults_agree(section: type, library: Callable[..., Any], renamed: Mapping[str, str]) -> None:
    ours, theirs = defaults(section), defaults(library)
    ours.pop("feature_epoch", None)  # None in the library: no features are kept
    shared = {(key, renamed.get(key, key)) for key in ours if renamed.get(key, key) in theirs}
    assert shared or library is train_on_everything
    for key, name in shared:
        told, meant = theirs[name], ours[key]
        assert (list(told) if isinstance(told, tuple) else told) == meant, f"{key}: {meant!r} and {told!r}"


def test_adapters_are_declared_once() -> None:
    assert student.Tower.model_fields["lora"].annotation == Lora | None
