"""Costs of steps: every method can be timed, slow steps are timed in part, and a GPU is left to the workers."""

import os
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine import build
from engine.config.components import find, names
from engine.evaluation.protocol import evaluate, prepare_set
from engine.experts.train import train_expert
from engine.experts.trajectory import MemorySource
from engine.models.two_tower import Tower, TwoTower
from engine.specification import Specification
from engine.studies.job import Job
from engine.studies.preflight import costs
from engine.studies.preflight.checks import check_disk, check_here
from engine.studies.preflight.costs import Costs, at, grown, seconds, time_dummy, time_prepared, timed
from engine.studies.preflight.dry_run import describe, estimate
from engine.studies.preflight.minutes import add_up
from engine.synthetic import shown
from engine.tensors import Params
from tests.studies.test_memory import LEARNED, SHORTCUT
from tests.tiny import tiny_job

METHODS = [
    (name, train)
    for name in names("method")
    for train in ("full", "frozen")
    if train == "frozen" or "frozen_encoders" not in find("method", name).needs  # type: ignore[attr-defined]
]


ALWAYS = {field.name for field in fields(Costs)} - {"image_cached"}


@pytest.mark.parametrize(("method", "train"), METHODS)
def test_every_method_can_be_timed(method: str, train: str, tmp_path: Path) -> None:
    words = [f"method={{name: {method}, num_pairs: 6}}", "search={}", f"student.image.train={train}", LEARNED]
    (found,) = time_dummy(tiny_job(tmp_path / "runs", *words).specification)
    cached = {"image_cached"} if train == "frozen" else set()
    assert {name for name, value in vars(found).items() if value > 0} == {*ALWAYS, *cached}, found
    assert not (tmp_path / "runs").exists()


def test_a_shortcut_of_trajectories_can_be_timed(tmp_path: Path) -> None:
    assert time_dummy(tiny_job(tmp_path, SHORTCUT, "search={}", LEARNED).specification)[0].outer_step > 0


def costs_where(monkeypatch: pytest.MonkeyPatch, job: Job, owner: Any, name: str) -> list[float]:
    """Return the cost of an outer step with each student where ``owner.name`` takes a second an image, all else none.

    A call of the text tower takes none, either.
    """
    clock, plain = [0.0], getattr(owner, name)

    def counted(*given: Any, **options: Any) -> Any:
        images = next(one for one in given if isinstance(one, Tensor))
        clock[0] += 0 if getattr(given[0], "modality", "image") == "text" else len(images)
        return plain(*given, **options)

    monkeypatch.setattr(owner, name, counted)
    monkeypatch.setattr(costs.time, "process_time", lambda: clock[0])
    return [one.outer_step for one in time_dummy(job.specification)]


FROZEN = "student.image.train=frozen"
LORS = "method={name: lors, num_pairs: 40, inner_steps: 20, inner_batch: 8}"
PLAIN = "{encoder: convnet, width: 8, depth: 1, grid: 1, head: mlp, train: %s}"
SUMMED, TWO_VIEWS = "method.students=summed", "method.views={count: 2, crop: [0.5, 0.9]}"


@pytest.mark.parametrize(
    ("words", "encoded"),
    [
        ([LORS, FROZEN], [40]),
        ([LORS, FROZEN, TWO_VIEWS, "method.images=pyramid"], [2 * 40]),
        ([LORS, FROZEN, f"students=[{{image: {PLAIN % 'frozen'}}}]", SUMMED, TWO_VIEWS], [2 * 80, 2 * 80]),
        ([LORS, FROZEN, f"students=[{{image: {PLAIN % 'full'}}}]"], [40, 40]),
        (["method={name: mdm, num_pairs: 100, batch: 16}", FROZEN], [16]),
        (["method={name: covmatch, num_pairs: 100, batch: 8, real_batch: 16}", FROZEN], [100]),
        (["method={name: apm, num_pairs: 100, batch: 8}", FROZEN], [100]),
        (["method={name: through_training, num_pairs: 100, inner_steps: 30}", FROZEN], [100]),
    ],
    ids=str,
)
def test_a_frozen_encoder_is_timed_once_an_outer_step(
    words: list[str], encoded: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = tiny_job(tmp_path, "search={}", LEARNED, *words)
    assert costs_where(monkeypatch, job, Tower, "prepare") == pytest.approx(encoded, rel=0.02)


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        (["method={name: bi_trajectory, num_pairs: 40, inner_steps: 20, inner_batch: 8}"], 2 * 20 * 8),
        (["method={name: bi_trajectory, num_pairs: 100, inner_steps: 9, real_weight: 0.1}"], 2 * 9 * 100 + 512),
        (["method={name: through_training, num_pairs: 100, real_batch: 400}"], 2 * 16 * 100 + 400),
        ([LORS, TWO_VIEWS], 2 * 2 * 20 * 8),
        ([LORS, f"students=[{{image: {PLAIN % 'full'}}}]", SUMMED], 2 * 2 * 20 * 8),
    ],
    ids=str,
)
def test_a_trained_encoder_is_timed_in_every_inner_step_twice(
    words: list[str], rows: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = tiny_job(tmp_path, "search={}", LEARNED, "student.image.train=full", *words)
    assert costs_where(monkeypatch, job, TwoTower, "loss")[0] == pytest.approx(rows, rel=0.02)


def test_crops_of_all_views_and_summed_students_are_timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    others = f"students=[{{image: {PLAIN % 'full'}}}, {{image: {PLAIN % 'frozen'}}}]"
    for students, passes in (("summed", 3 * 2), ("drawn", 2)):
        job = tiny_job(tmp_path, "search={}", "method.num_pairs=100", others, TWO_VIEWS, f"method.students={students}")
        with monkeypatch.context() as patched:
            found = costs_where(patched, job, shown, "random_views")
        assert found == pytest.approx([100 * passes] * 3)


def test_a_slow_step_is_timed_with_fewer_pairs_and_extrapolated(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def step(size: int) -> Callable[[], object]:
        taken.append(size)
        return lambda: clock.append(clock[-1] + 0.01 * size)  # 10 ms a pair, however many there are

    clock = [0.0]
    monkeypatch.setattr(costs.time, "process_time", lambda: clock[-1])
    assert seconds(step, 1000) == pytest.approx(10.0)
    assert max(taken) == 128  # the first that takes longer than LONGEST
    assert seconds(step, 20) == pytest.approx(0.2)


@pytest.mark.parametrize(("each", "largest"), [(0.3, 8), (0.01, 128), (0.001, 512), (0.0001, 1000)])
def test_what_does_not_grow_is_not_extrapolated(each: float, largest: int) -> None:
    found = grown(lambda size: 0.6 + each * size, 2, 1000)
    assert at(1000, found) == pytest.approx(0.6 + each * 1000)
    assert found[-1][0] == largest  # where a step is long, and most of it has grown


def test_a_smaller_outer_step_has_the_study_s_own_size_at_the_end(tmp_path: Path) -> None:
    words = "method={name: lors, num_pairs: 100, inner_steps: 8, inner_batch: 20}"
    study = tiny_job(tmp_path, "search={}", words).study
    sizes = [build.method(costs._smaller(study, share, steps)) for share, steps in ((0.001, 5), (0.4, 5), (1.0, 8))]
    found = [(one.num_pairs, one.inner_steps, one.inner_batch) for one in sizes]  # type: ignore[attr-defined]
    assert found == [(2, 5, 2), (40, 5, 8), (100, 8, 20)]


def test_the_driver_leaves_the_gpu_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "runs")
    moved: list[str] = []
    there: list[object] = []
    to = torch.nn.Module.to

    def watched(self: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        moved.extend(str(device) for device in args)
        return to(self, *args, **kwargs)

    def elsewhere(measure: object, specification: object) -> list[Costs]:
        there.append(measure)
        return [Costs()]

    monkeypatch.setattr(torch.nn.Module, "to", watched)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr("engine.studies.preflight.dry_run.timed", elsewhere)
    check_here(job)
    check_disk(job)
    estimate(job)
    describe(job)
    assert set(moved) == {"cpu", "meta"}
    assert there == [time_prepared, time_dummy]


def process(specification: Specification) -> list[Costs]:
    return [Costs(expert_batch=float(os.getpid()))]


def test_steps_are_timed_in_a_process_of_their_own_where_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    specification = tiny_job(tmp_path).specification
    assert timed(process, specification)[0].expert_batch == os.getpid()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert timed(process, specification)[0].expert_batch != os.getpid()


def processor_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def run_here(job: Job, *, outer_steps: int) -> tuple[float, float, float]:
    """Train the experts, take the outer steps, score the set, all in this process; return the seconds of each."""
    study, setup = job.study, job.specification.setup()
    train, recipe = setup.pairs["train"], build.expert_recipe(study)
    trajectories: list[dict[int, Params]] = []

    def experts() -> None:
        for number in range(job.expert_count):
            epochs = train_expert(
                setup.student, train, seed=0, name=str(number), epochs=job.expert_epochs, recipe=recipe
            )
            trajectories.append(dict(epochs))

    trained = processor_seconds(experts)
    run = build.distillation(study, setup, MemorySource(trajectories))
    run.run(1)
    distilled = processor_seconds(lambda: run.run(outer_steps))
    small = prepare_set(setup.student, run.synthetic, setup.device)
    val, test = setup.pairs["val"], setup.pairs["test"]

    def score() -> None:
        evaluate(setup.student, small, build.protocol(study), seed=0, val=val, test=test)

    return trained, distilled, processor_seconds(score)


BIGGER = (
    "data={name: shapes, image_px: 16, train_images: 60, val_images: 20, test_images: 20}",
    "method={name: bi_trajectory, num_pairs: 16, inner_steps: 4}",
    "protocol.epochs=10",
    "baselines={coresets: [], full_epochs: 1, warmup_epochs: 1, feature_epoch: 1, full_seeds: 0}",
    "budget={outer_steps: 10, evaluate_every: 10}",
    "search={}",
)


@pytest.mark.slow
@pytest.mark.parametrize("train", ["full", "frozen"])
def test_the_estimate_is_near_the_seconds_of_the_run(train: str, tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "runs", *BIGGER, f"student.image.train={train}", samples=1)
    job.specification.setup()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        experts, distilled, scored = run_here(job, outer_steps=10)
    finally:
        torch.set_num_threads(before)
    parts = add_up(job, time_prepared(job.specification), build.data_set(job.study).sizes(job.specification.paths))
    for estimated, measured in ((parts.experts, experts), (parts.trials, distilled), (parts.scoring, scored)):
        assert measured / 3 < estimated < 3 * measured, (parts, experts, distilled, scored)
