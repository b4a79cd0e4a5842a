"""Every default has one value: that of a configuration is that of the library."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from engine.config import schema, student
from engine.config.strict import Strict
from engine.distill import Distillation, outer_optimiser
from engine.evaluation.full_data import FullDataRecipe
from engine.evaluation.own_model import train_on_set
from engine.evaluation.protocol import Protocol
from engine.evaluation.student import StudentRecipe
from engine.experts.train import ExpertRecipe
from engine.io.storage import location
from engine.methods import LearningRates
from engine.models.lora import Lora
from engine.models.two_tower import TwoTower
from engine.studies import registered
from tasks import doctor

PAIRS: list[tuple[type, Callable[..., Any], Mapping[str, str]]] = [
    (schema.Protocol, StudentRecipe, {}),
    (schema.Protocol, Protocol, {}),
    (schema.Experts, ExpertRecipe, {"lr": "learning_rates"}),
    (schema.LearningRates, LearningRates, {}),
    (schema.MethodChoice, Distillation, {}),
    (schema.Optimiser, outer_optimiser, {}),
    (schema.Optimiser, Distillation, {}),
    (schema.Student, TwoTower, {}),
    (schema.Student, train_on_set, {}),
    (schema.Baselines, FullDataRecipe, {"full_epochs": "max_epochs", "warmup_epochs": "forgetting_epochs"}),
]


def defaults(kind: Callable[..., Any]) -> dict[str, Any]:
    """Return the defaults of a dataclass, a model or a function."""
    if isinstance(kind, type) and issubclass(kind, Strict):
        fields = {name: field for name, field in kind.model_fields.items() if not field.is_required()}
        return {name: field.get_default(call_default_factory=True) for name, field in fields.items()}
    if dataclasses.is_dataclass(kind):
        values = {f.name: f.default for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING}
        made = (f for f in dataclasses.fields(kind) if f.default_factory is not dataclasses.MISSING)
        return values | {field.name: field.default_factory() for field in made}
    parameters = inspect.signature(kind).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


@pytest.mark.parametrize(("section", "library", "renamed"), PAIRS)
def test_defaults_agree(section: type, library: Callable[..., Any], renamed: Mapping[str, str]) -> None:
    ours, theirs = defaults(section), defaults(library)
    ours.pop("feature_epoch", None)  # None in the library: no features are kept
    shared = {(key, renamed.get(key, key)) for key in ours if renamed.get(key, key) in theirs}
    assert shared.issuperset(renamed.items())
    assert shared
    for key, name in shared:
        told, meant = (dict(value) if key == "lr" else value for value in (theirs[name], ours[key]))
        assert (list(told) if isinstance(told, tuple) else told) == meant, f"{key}: {meant!r} and {told!r}"


def test_the_storage_is_one_folder_where_none_is_named() -> None:
    given = schema.Study.model_fields["storage"].default
    assert registered._storage([]) == location(given)
    assert doctor.PARSER.get_default("storage") == given


def test_adapters_are_declared_once() -> None:
    assert student.Tower.model_fields["lora"].annotation == Lora | None
