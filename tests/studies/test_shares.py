"""The share of a GPU of a task that names none is what its memory takes of the smallest GPU."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from engine.cluster.runtime import Cluster, granted
from engine.config.resources import TASKS, USUAL_SHARES, Request, Resources
from engine.studies.job import Job
from engine.studies.preflight import shares
from engine.studies.preflight.dry_run import shares_ahead
from engine.studies.preflight.shares import HEADROOM, MOST, PROCESS_BYTES, RESERVED, share
from tests.tiny import tiny_job

GIB = 2**30
LEAST = 1 / MOST
OPEN = "resources={expert: {cpu: 1}, trial: {cpu: 1}, evaluation: {cpu: 1}}"


@pytest.mark.parametrize(
    ("needed", "gpu", "wanted"),
    [
        (0, 80 * GIB, LEAST),
        (10 * GIB, 80 * GIB, 0.25),  # 15 of what may be reserved and 0.75 of the process, of 72
        (12 * GIB, 80 * GIB, 0.3333),
        (40 * GIB, 80 * GIB, 1.0),
        (400 * GIB, 80 * GIB, 1.0),
        (10 * GIB, math.inf, 0.5),
        (None, 80 * GIB, 0.5),
    ],
)
def test_a_share_has_room_for_what_the_allocator_reserves(needed: int | None, gpu: float, wanted: float) -> None:
    assert share(needed, gpu, usual=0.5) == wanted


def test_no_share_is_too_small_for_its_process() -> None:
    for size in range(1, 40):
        given = share(size * GIB, 80 * GIB, usual=1.0)
        assert given * HEADROOM * 80 * GIB >= min(0.999 * (RESERVED * size * GIB + PROCESS_BYTES), HEADROOM * 80 * GIB)
        fit = round(1 / given)
        assert fit * given <= 1
        assert fit == MOST or HEADROOM * 80 * GIB / (fit + 1) < RESERVED * size * GIB + PROCESS_BYTES


def test_a_number_in_the_study_counts_and_a_cluster_without_gpus_gives_none() -> None:
    own = Resources(trial=Request(gpu=0.3))
    cluster = Cluster(joined=True, cpus=4, gpus=1, object_store_bytes=1, shares=dict.fromkeys(TASKS, 0.15))
    assert [granted(own, task, cluster)["gpu"] for task in TASKS] == [0.15, 0.3, 0.15]
    assert [granted(own, task, replace(cluster, gpus=0))["gpu"] for task in TASKS] == [0, 0, 0]


def test_shares_follow_the_smallest_gpu(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, OPEN)
    large, small = (shares_ahead(job, 2 * GIB, gpus) for gpus in ([80 * GIB], [80 * GIB, 8 * GIB]))
    assert large.keys() == small.keys() == {*TASKS}
    assert large == dict.fromkeys(TASKS, LEAST)
    assert small["trial"] == share(2 * GIB, 8 * GIB, usual=1.0) > small["expert"]
    assert shares_ahead(job, 2 * GIB, []) == USUAL_SHARES
    assert shares_ahead(job, None, [80 * GIB])["trial"] == USUAL_SHARES["trial"]


def test_nothing_is_measured_where_every_share_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = "resources={expert: {gpu: 0.2}, trial: {gpu: 0.3}, evaluation: {gpu: 0.4}}"
    monkeypatch.setattr(shares, "expert_bytes", lambda *_: 1 / 0)
    assert shares_ahead(tiny_job(tmp_path, numbers), GIB, [80 * GIB]) == USUAL_SHARES
    with pytest.raises(ZeroDivisionError):
        shares_ahead(tiny_job(tmp_path, OPEN), GIB, [80 * GIB])


def bytes_of(job: Job) -> int:
    (setup,) = job.specification.setups(device="cpu")
    found = shares.expert_bytes(job.study.of_each_student()[0], setup)
    assert found is not None
    return found


def test_the_bytes_of_an_expert_grow_with_its_batch(tmp_path: Path) -> None:
    protocol = "protocol.batch_size=32"
    some, more, most = (
        bytes_of(tiny_job(tmp_path, protocol, f"experts.batch_size={number}")) for number in (32, 64, 96)
    )
    assert most - more == pytest.approx(more - some, rel=0.05)
    assert some > more - some > 0
    assert bytes_of(tiny_job(tmp_path, "protocol.batch_size=96", "experts.batch_size=32")) == most


def test_a_frozen_encoder_counts_its_chunk_of_photos(tmp_path: Path) -> None:
    (frozen,) = tiny_job(tmp_path, "student.image.train=frozen").specification.setups(device="cpu")
    (full,) = tiny_job(tmp_path).specification.setups(device="cpu")
    pixels = 4 * shares.CHUNK * math.prod(frozen.datasets["train"].images.shape[1:])
    assert shares._prepare_bytes(frozen) > pixels
    assert shares._prepare_bytes(full) == 0
