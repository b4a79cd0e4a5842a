"""Shares of a GPU for tasks that a study gives none: what the memory of each takes of it."""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch

from engine import build
from engine.build import Setup
from engine.config.resources import USUAL_SHARES, Task
from engine.config.schema import Resolved
from engine.data.prepared import PreparedPairs
from engine.experts.train import train_epoch
from engine.resources import UNITS
from engine.rng import named_generator
from engine.studies.job import Job
from engine.studies.preflight.memory import META, LiveBytes, ShapesOnly
from engine.studies.preflight.requirements import snapshot_bytes

HEADROOM = 0.9
"""Share of its memory that a task's process and work may take: allocators reserve more than is in use."""

PROCESS_BYTES = 768 * 2**20
"""Assumed memory of a trial's process before its first step. Measured on a CPU: 382 MiB of its own with all libraries,
and 297 MiB of mapped files that trials share; on an H100: 768 MiB beside what torch allocates."""

RESERVED = 1.5
"""What torch's allocator may reserve for a live byte; measured on an H100: 1.5 with whole encoders, 1.1 with heads."""

MOST = 5
"""Processes on one GPU: more would wait for each other, and each takes gigabytes of the host."""

CHUNK = 256
"""Images that a frozen encoder sees at a time when features are made."""


def wanted_shares(job: Job, setups: Sequence[Setup], trial: int | None, gpu_bytes: float) -> dict[Task, float]:
    """Return the share of a GPU of ``gpu_bytes`` that each kind of task needs; the usual one where it is unknown.

    ``trial`` are the bytes of an outer step. ``setups`` are those of the study's students, on any device.
    """
    studies = job.study.of_each_student()
    experts = [expert_bytes(one, setup) for one, setup in zip(studies, setups, strict=True)]
    batch = None if None in experts else max(one for one in experts if one is not None)
    evaluation = [batch, *map(_prepare_bytes, setups)]
    known = [size for size in evaluation if size is not None]
    together = max(_students_bytes(job.study, setup) for setup in setups)
    needed: dict[Task, int | None] = {
        "expert": batch,
        "trial": trial,
        "evaluation": max(known) + together if len(known) == len(evaluation) else None,
    }
    return {task: share(size, gpu_bytes, usual=USUAL_SHARES[task]) for task, size in needed.items()}


def share(needed: int | None, gpu_bytes: float, *, usual: float) -> float:
    """Return the share of a GPU in which a process of ``needed`` bytes has room: 1, 1/2, ... or 1/``MOST``.

    Such shares fill every GPU of a cluster, while of 0.35 fewer fit on two GPUs than their sum says.
    """
    if needed is None or not math.isfinite(gpu_bytes):
        return usual
    exact = (RESERVED * needed + PROCESS_BYTES) / (HEADROOM * gpu_bytes)
    return math.floor(UNITS / max(1, min(MOST, int(1 / exact)))) / UNITS


def expert_bytes(study: Resolved, setup: Setup) -> int | None:
    """Return the peak bytes of a training step on real pairs; None where an operation needs numbers."""
    recipe = build.expert_recipe(study)
    number = max(recipe.batch_size, study.protocol.batch_size)
    student, train = deepcopy(setup.student).to(META), setup.pairs["train"]
    some = np.arange(number)
    pairs = PreparedPairs(train.images[some % len(train.images)], train.texts[some % len(train.texts)], some)
    try:
        with ShapesOnly(), LiveBytes() as live:
            live.watch([list(part.state_dict().values()) for t in student.towers() for part in (t.frozen, t.trained)])
            params = student.init_params(named_generator(0, "shares"))
            train_epoch(
                student,
                params,
                pairs,
                recipe=replace(recipe, batch_size=number),
                generator=named_generator(0, "shares"),
            )
    except (RuntimeError, TypeError):
        return None
    return live.peak


def _prepare_bytes(setup: Setup) -> int | None:
    """Return the peak bytes of a frozen image encoder on a chunk of photos; 0 where it is trained, None if unknown."""
    if not setup.student.image.only_head:
        return 0
    tower, side = deepcopy(setup.student.image).to(META), setup.datasets["train"].images.shape[1:]
    try:
        with torch.no_grad(), ShapesOnly(), LiveBytes() as live:
            live.watch(list(tower.frozen.state_dict().values()))
            tower.prepare(torch.empty(CHUNK, *side, device=META))
    except (RuntimeError, TypeError):  # an operation that needs numbers
        return None
    return live.peak


def _students_bytes(study: Resolved, setup: Setup) -> int:
    """Return the bytes of students that are trained as one batch, with gradients, momenta and copies; 0 for one."""
    if not all(tower.only_head for tower in setup.student.towers()):
        return 0
    return 4 * (len(study.protocol.learning_rates) + 1 + study.protocol.seeds) * snapshot_bytes(setup.student)
