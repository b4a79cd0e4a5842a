"""Costs of steps: every method can be timed, slow steps are timed in part, and a GPU is left to the workers."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import build
from engine.config.components import find, names
from engine.evaluation.protocol import evaluate, prepare_set
from engine.experts.train import train_expert
from engine.experts.trajectory import MemorySource
from engine.specification import Specification
from engine.studies.job import Job
from engine.studies.preflight import costs
from engine.studies.preflight.checks import check_disk, check_here
from engine.studies.preflight.costs import Costs, seconds, time_dummy, time_prepared, timed
from engine.studies.preflight.dry_run import describe, estimate
from engine.studies.preflight.minutes import add_up
from engine.tensors import Params
from tests.studies.test_memory import LEARNED, SHORTCUT
from tests.tiny import tiny_job

METHODS = [
    (name, train)
    for name in names("method")
    for train in ("full", "frozen")
    if train == "frozen" or "frozen_encoders" not in find("method", name).needs  # type: ignore[attr-defined]
]


@pytest.mark.parametrize(("method", "train"), METHODS)
def test_every_method_can_be_timed(method: str, train: str, tmp_path: Path) -> None:
    words = [f"method={{name: {method}, num_pairs: 6}}", "search={}", f"student.image.train={train}", LEARNED]
    found = time_dummy(tiny_job(tmp_path / "runs", *words).specification)
    assert all(value > 0 for value in vars(found).values()), found
    assert not (tmp_path / "runs").exists()


def test_a_shortcut_of_trajectories_can_be_timed(tmp_path: Path) -> None:
    assert time_dummy(tiny_job(tmp_path, SHORTCUT, "search={}", LEARNED).specification).outer_step > 0


def test_a_pyramid_and_views_add_the_seconds_of_showing_them(tmp_path: Path) -> None:
    words = ["data.image_px=64", "search={}", "method.num_pairs=40"]
    shown = ["method.images=pyramid", "method.views={count: 2, crop: [0.5, 0.9]}"]
    plain, richer = tiny_job(tmp_path, *words), tiny_job(tmp_path, *words, *shown)
    found = [time_dummy(job.specification) for job in (plain, richer)]
    assert found[1].showing > 3 * found[0].showing
    sizes, showing = build.data_set(plain.study).sizes(plain.specification.paths), Costs(showing=60.0)
    steps = plain.study.budget.outer_steps
    for job in (plain, richer):
        assert add_up(job, showing, sizes).trials == pytest.approx(60.0 * steps * job.samples)


def test_a_slow_step_is_timed_with_fewer_pairs_and_extrapolated(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def step(size: int) -> Callable[[], object]:
        taken.append(size)
        return lambda: clock.append(clock[-1] + 0.01 * size)  # 10 ms a pair, however many there are

    clock = [0.0]
    monkeypatch.setattr(costs.time, "process_time", lambda: clock[-1])
    assert seconds(step, 1000) == pytest.approx(10.0)
    assert max(taken) == 32  # the first that takes longer than LONGEST
    assert seconds(step, 20) == pytest.approx(0.2)


def test_a_smaller_outer_step_has_the_study_s_own_size_at_the_end(tmp_path: Path) -> None:
    words = "method={name: lors, num_pairs: 100, inner_steps: 8, inner_batch: 20}"
    study = tiny_job(tmp_path, "search={}", words).study
    sizes = [build.method(costs._smaller(study, pairs)) for pairs in (2, 32, costs._pairs_per_outer_step(study))]
    found = [(one.num_pairs, one.inner_steps, one.inner_batch) for one in sizes]  # type: ignore[attr-defined]
    assert found == [(2, 1, 2), (32, 2, 20), (100, 8, 20)]


def test_the_driver_leaves_the_gpu_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "runs")
    moved: list[str] = []
    there: list[object] = []
    to = torch.nn.Module.to

    def watched(self: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        moved.extend(str(device) for device in args)
        return to(self, *args, **kwargs)

    def elsewhere(measure: object, specification: object) -> Costs:
        there.append(measure)
        return Costs()

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


def process(specification: Specification) -> Costs:
    return Costs(expert_batch=float(os.getpid()))


def test_steps_are_timed_in_a_process_of_their_own_where_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    specification = tiny_job(tmp_path).specification
    assert timed(process, specification).expert_batch == os.getpid()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert timed(process, specification).expert_batch != os.getpid()


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
