"""The estimate of a study: counts are those of the study, and a dry run writes no file."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine import build
from engine.data.pairs import Size
from engine.evaluation.protocol import EVAL_POINTS
from engine.studies.preflight import minutes
from engine.studies.preflight.costs import Costs
from engine.studies.preflight.dry_run import describe, estimate
from engine.studies.preflight.memory import TrialBytes
from engine.studies.preflight.minutes import Parts, add_up
from tests.tiny import tiny_job

SIZES = {"train": Size(100, 500), "val": Size(10, 50), "test": Size(20, 100)}
WORDS = (
    "experts={count: 3, epochs: 4, batch_size: 50}",
    "method={name: bi_trajectory, num_pairs: 20, max_start: 1}",
    "protocol={epochs: 10, batch_size: 8, seeds: 2, learning_rates: [0.1, 0.2]}",
    "baselines={coresets: [random], pairs: [40], full_epochs: 5, warmup_epochs: 2, feature_epoch: 1, full_seeds: 1}",
    "budget={outer_steps: 60, evaluate_every: 20}",
    "search={}",
)
OTHER = "students=[{text: {encoder: tfidf, dim: 8}}]"


def counted(tmp_path: Path, *words: str, **costs: float) -> Parts:
    job = tiny_job(tmp_path / "runs", *WORDS, *words)
    return add_up(job, [Costs(**costs)] * len(job.study.of_each_student()), SIZES)


def test_epochs_of_experts_and_of_all_pairs_are_counted(tmp_path: Path) -> None:
    parts = counted(tmp_path, expert_batch=1.0)
    assert parts.experts == 3 * 4 * 10
    assert parts.scoring == 5 * 10  # a student of all pairs
    assert counted(tmp_path, "experts.captions=one", expert_batch=1.0).experts == 3 * 4 * 2


def test_outer_steps_and_validations_are_counted(tmp_path: Path) -> None:
    assert counted(tmp_path, outer_step=1.0).trials == 60
    parts = counted(tmp_path, student_step=1.0)  # of 8 pairs, which is what is timed
    three_batches = 10 * 3 * (20 / 3 / 8)
    assert parts.trials == pytest.approx(3 * three_batches)
    of_forty = 10 * 5
    assert parts.scoring == pytest.approx((3 + 2) * three_batches + (2 + 2) * of_forty)


def test_every_student_is_counted(tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "runs", *WORDS, OTHER)
    one, two = Costs(outer_step=1.0, expert_batch=2.0), Costs(outer_step=3.0, expert_batch=4.0)
    parts = add_up(job, [one, two], SIZES)
    assert parts.trials == 60 * 2, "an outer step is that of one student, drawn"
    summed = tiny_job(tmp_path / "runs", *WORDS, OTHER, "method.students=summed")
    assert add_up(summed, [one, two], SIZES).trials == 60 * (1 + 3), "an outer step is that of every student"
    assert parts.experts == 3 * 4 * 10 * (2 + 4)
    alone, both = counted(tmp_path, student_step=1.0), counted(tmp_path, OTHER, student_step=1.0)
    assert both.trials == pytest.approx(2 * alone.trials), "validations"
    students = 10 * 3 * (20 / 3 / 8) * (3 + 2)
    assert both.scoring - alone.scoring == pytest.approx(students), "the set is scored with both, baselines with one"


def test_twice_the_outer_steps_are_twice_the_trials(tmp_path: Path) -> None:
    costs = {"outer_step": 1.0, "student_step": 0.1, "image_embedded": 0.01}
    one, two = (counted(tmp_path, f"budget.outer_steps={steps}", **costs) for steps in (60, 120))
    assert two.trials == 2 * one.trials
    assert (two.experts, two.scoring) == (one.experts, one.scoring)


def test_scores_on_val_and_test_are_counted(tmp_path: Path) -> None:
    parts = counted(tmp_path, image_embedded=1.0)
    assert parts.trials == 3 * 10
    assert parts.scoring == (5 * 10 + 2 * 20) + (4 * 10 + 2 * 20) + (5 * 10 + 20)
    judged = counted(tmp_path, "protocol.select_epoch=best_on_test", image_embedded=1.0)
    assert judged.scoring == parts.scoring + (5 + 4) * EVAL_POINTS * 20


def test_caches_are_counted(tmp_path: Path) -> None:
    assert counted(tmp_path, image_cached=1.0).caches == 130
    assert counted(tmp_path, caption_cached=1.0).caches == 650
    assert counted(tmp_path, OTHER, image_cached=1.0).caches == 130, "its image encoder is the own one's"
    assert counted(tmp_path, OTHER, caption_cached=1.0).caches == 2 * 650
    assert counted(tmp_path, OTHER, photo_decoded=1.0).caches == 130


def test_baselines_are_scored_beside_a_chain_of_tasks(tmp_path: Path) -> None:
    parts = Parts(caches=100.0, experts=200.0, trials=300.0, scoring=800.0, chain=(100.0, 300.0, 50.0))
    found = {name: 60 * minutes for name, minutes in parts.minutes(2).items()}
    assert found == pytest.approx(
        {"start": minutes.START, "caches": 50, "experts": 100, "trials": 300, "scoring": (200 + 300 + 800) / 2 - 400}
    )
    assert parts.minutes(100)["scoring"] * 60 == pytest.approx(50), "only the set itself is scored afterwards"


def test_one_cpu_does_all_in_turn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(minutes.os, "sched_getaffinity", lambda _: {0})
    costs = {"expert_batch": 1.0, "outer_step": 2.0, "student_step": 0.5, "image_embedded": 0.1}
    parts = counted(tmp_path, "resources.trial.cpu=1", **costs)
    seconds = [60 * minutes for minutes in parts.minutes(1).values()]
    assert seconds == pytest.approx([minutes.START, 0, parts.experts, parts.trials, parts.scoring])


def test_tasks_with_shares_run_at_once_as_ray_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = len(os.sched_getaffinity(0))
    assert minutes._at_once({"cpu": 0.1, "gpu": 0.0}) == 10 * cpus  # a float division gives 9 on one CPU
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert minutes._at_once({"cpu": 0.0, "gpu": 0.2}) == 10


def test_a_dry_run_estimates_minutes_and_writes_nothing(tmp_path: Path) -> None:
    *_, memory, duration = describe(tiny_job(tmp_path / "runs")).splitlines()
    assert re.match(r"memory:        0\.\d MiB of memory in an outer step$", memory)
    assert re.match(
        r"time:          about \d+\.\d min on \d+ CPUs( and \d+ GPUs)? \(start .* min, caches .* min, "
        r"experts .* min, trials .* min, scoring .* min; less what is cached already\)$",
        duration,
    )
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_counts_every_student_that_the_set_is_learned_for(tmp_path: Path) -> None:
    wide = "students=[{image: {encoder: convnet, width: 4096, depth: 1, grid: 1, train: full, head: mlp}}]"
    one, two = (describe(tiny_job(tmp_path / "runs", *words)).splitlines()[-5:] for words in ((), (wide,)))
    assert one[0].startswith("experts:       2 x 2 epochs, 0 already there, ")
    assert two[0].startswith("experts:       2 x 2 epochs for each of 2 students, 0 already there, ")
    assert number(two[0]) > 10 * number(one[0]), "the trajectories of both"
    assert number(two[3]) > 2 * number(one[3]), "the memory of the larger student"


def number(line: str) -> float:
    """Return the MiB that a line of a dry run tells."""
    return float(re.search(r"([\d.]+) MiB", line)[1])  # type: ignore[index]


def test_without_its_data_a_dry_run_says_so(tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "runs", "data={name: karpathy, root: nowhere, image_px: 16}")
    assert "not estimated: data.root: 'nowhere' is not a folder" in describe(job)


def test_a_distillation_begins_with_minutes_and_bytes(tmp_path: Path) -> None:
    found = estimate(tiny_job(tmp_path / "runs"))
    assert found.trajectories == 2 * 3 * 4 * (1_992 + 576)  # experts, snapshots, bytes, and parameters of the towers
    assert found.minutes is not None
    assert found.minutes > minutes.START / 60
    assert re.match(
        r"Estimate: about \d+\.\d min on \d+ CPUs( and \d+ GPUs)?, \d+\.\d MiB of trajectories, "
        r"\d+\.\d MiB of memory in an outer step$",
        found.sentence(),
    )
    assert "unknown memory" in replace(found, trial=TrialBytes(None, None)).sentence()


def test_a_method_that_fails_on_random_numbers_is_not_estimated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = tiny_job(tmp_path / "runs")

    def backward(*given: object) -> dict[str, float]:
        raise RuntimeError("expected other pairs")

    monkeypatch.setattr(type(build.method(job.study)), "backward", backward)
    found = estimate(job)
    assert (found.minutes, found.trial.step) == (None, None)
    assert "Estimate: unknown time on " in found.sentence()
