"""The costs of a study's steps: every method can be timed, a slow step is timed with less, and nothing is written."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine import build
from engine.config.components import names
from engine.data.pairs import Size
from engine.models.text import TextEncoder
from engine.studies.job import Job
from engine.studies.preflight.costs import QUICK, Costs, Patience, lighter, time_steps, with_caches, work
from engine.studies.preflight.dummy_inputs import DummyInputs, random_texts
from tests.tiny import tiny_job

HURRIED = Patience(longest=1.5, enough=0.0)
"""Each step is timed twice and no more: these tests believe no number."""

VAL = Size(20, 100)
SHORTCUT = "method={name: lors, num_pairs: 6, span: 1, max_start: 2, shortcut: 3}"
LEARNED = "optimiser.similarity_lr=0.1"


def dummy(job: Job) -> tuple[DummyInputs, TextEncoder]:
    encoder = build.build_text_encoder(job.study, job.specification.paths)
    student = build.build_student(job.study, job.specification.paths, encoder=encoder)
    return DummyInputs(job.study, student, random_texts(job.study, encoder)), encoder


TIMED = [
    (name, train) for name in names("method") for train in ("full", "frozen") if (name, train) != ("repblend", "full")
]


@pytest.mark.parametrize(("method", "train"), TIMED)
def test_every_method_can_be_timed(method: str, train: str, tmp_path: Path) -> None:
    words = [f"method={{name: {method}, num_pairs: 6}}", "search={}", f"student.image.train={train}", LEARNED]
    costs = timed(tmp_path, *words)
    assert all(cost >= 0 for cost in vars(costs).values())
    assert costs.outer_step > 0
    assert not (tmp_path / "runs").exists()


def test_a_shortcut_of_trajectories_can_be_timed(tmp_path: Path) -> None:
    assert timed(tmp_path, SHORTCUT, "search={}", LEARNED).outer_step > 0


def timed(tmp_path: Path, *words: str) -> Costs:
    return time_steps(dummy(tiny_job(tmp_path / "runs", *words))[0], VAL, HURRIED)


def test_caches_cost_where_they_have_to_be_filled(tmp_path: Path) -> None:
    steps, encoder = dummy(tiny_job(tmp_path / "runs", "student.image.train=frozen"))
    costs = time_steps(steps, VAL, HURRIED)
    assert (costs.image_cached, costs.caption_cached, costs.captions_fitted) == (0, 0, 0)
    filled = with_caches(costs, steps, encoder, HURRIED)
    assert min(filled.image_cached, filled.caption_cached) > 0
    assert replace(filled, image_cached=0.0, caption_cached=0.0, captions_fitted=0.0) == costs


@pytest.mark.parametrize(("patience", "steps", "pairs"), [(HURRIED, 1, 6), (QUICK, 1, 2)])
def test_a_slow_step_is_timed_with_fewer_pairs_and_steps(
    patience: Patience, steps: int, pairs: int, tmp_path: Path
) -> None:
    method = build.method(tiny_job(tmp_path, "search={}", "method={name: lors, num_pairs: 100}").study)

    def seconds(one: object) -> float:
        return work(one, trained=0.1, frozen=0.0)

    light = lighter(method, seconds, patience)
    assert seconds(method) == pytest.approx(4 * 8 * 20 * 0.1)
    assert (light.inner_steps, light.inner_batch) == (steps, pairs)
    assert lighter(method, lambda one: 0.0, patience) is method
