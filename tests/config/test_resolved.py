"""A resolved study: validated once, changed section by section, and sent to workers by pickle."""

import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.config import components
from engine.config.load import as_yaml, assign, load, resolve
from engine.config.schema import Resolved
from engine.config.search import probes
from engine.studies.job import make_job
from engine.studies.preflight.checks import check_study
from tests.tiny import SPACE


@pytest.fixture
def study() -> Resolved:
    return resolve(load(SPACE))


@pytest.fixture
def validations(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the validations of components by their modules."""
    counts: Counter[str] = Counter()
    original: Callable[..., Any] = components.validated

    def counted(entry: Callable[..., Any], values: Any) -> Any:
        counts[entry.__module__.removeprefix("engine.")] += 1
        return original(entry, values)

    monkeypatch.setattr(components, "validated", counted)
    return counts


def test_a_resolved_study_is_not_resolved_again(study: Resolved, validations: Counter[str]) -> None:
    assert resolve(study) is study
    assert len({study.identity, study.experts_identity}) == 2
    assert not validations


def test_one_option_of_the_method_validates_one_section(study: Resolved, validations: Counter[str]) -> None:
    trial = assign(study, {"method.inner_steps": 3})
    assert validations == {"methods.bi_trajectory": 1}
    assert trial.method.options["inner_steps"] == 3
    assert trial.student is study.student
    assert trial.data is study.data


def test_a_number_outside_of_components_validates_none(study: Resolved, validations: Counter[str]) -> None:
    assert assign(study, {"experts.count": "5", "optimiser.image_lr": "1e-1"}).optimiser.image_lr == 0.1
    assert not validations


def test_the_checks_of_a_search_validate_its_values_alone(study: Resolved, validations: Counter[str]) -> None:
    job = make_job("tiny", study, samples=2)
    values = sum(len(probes(domain)) for domain in study.search.values())
    validations.clear()
    check_study(job)
    assert set(validations) == {"methods.bi_trajectory"}
    assert validations.total() <= 4 * values


def test_it_survives_its_journey_to_workers_and_its_own_yaml(study: Resolved, tmp_path: Path) -> None:
    key = study.identity
    again = pickle.loads(pickle.dumps(study))
    assert isinstance(again, Resolved)
    assert again == study
    assert (again.identity, again.experts_identity) == (key, study.experts_identity)
    assert assign(again, {"method.span": 1}).model_dump() == assign(study, {"method.span": 1}).model_dump()
    path = tmp_path / "resolved.yaml"
    path.write_text(as_yaml(study), encoding="utf-8")
    assert resolve(load(path)).identity == key


def test_a_digest_is_not_carried_over_to_another_study(study: Resolved) -> None:
    before = study.identity, study.experts_identity
    other = assign(study, {"seed": 1})
    assert other.identity != before[0]
    assert other.experts_identity != before[1]


def test_a_schedule_of_outer_rates_is_part_of_a_study(study: Resolved) -> None:
    assert assign(study, {"optimiser.schedule": "constant"}).identity == study.identity
    other = assign(study, {"optimiser.schedule": "cosine"})
    assert (other.identity == study.identity, other.experts_identity == study.experts_identity) == (False, True)
