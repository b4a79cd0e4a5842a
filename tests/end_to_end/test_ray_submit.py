"""The cluster file as it is shipped: two machines come up, run studies that are sent to them, and are stopped."""

import pytest

from engine.results.history import BEST_SET
from tests.end_to_end.conftest import World
from tests.end_to_end.machines import await_that, runs_ray
from tests.runs import recorded
from tests.tiny import tiny_job

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def test_a_study_runs_on_machines_reached_by_ssh(world: World) -> None:
    world.ray("up", "-y", str(world.file))
    await_that(lambda: runs_ray(world.worker))  # the head starts the workers once it is up itself
    space = "vldistill/tests/tiny.yaml"
    words = [f"storage={world.shared}/runs", "baselines.coresets=[random]", "budget.samples=1"]

    said = world.ray("submit", str(world.file), "tasks/distill.py", space, *words)

    assert "Ray: the running cluster (" in said
    assert "bi_trajectory" in said
    job = tiny_job(world.shared / "runs", *words[1:])
    (study,), trials = recorded(job)
    assert {run.status for run in (study, *trials)} == {"FINISHED"}
    assert len(trials) == 1
    assert study.metrics["test/mean_recall"] > 0
    assert {BEST_SET, "table.json"} <= study.artifacts

    submitted = ["--address=http://127.0.0.1:8265", "--working-dir=.", "--", "python", "tasks/distill.py"]
    said = world.ray("job", "submit", *submitted, "tests/tiny.yaml", *words, "method.num_pairs=6")
    assert "succeeded" in said

    world.ray("down", "-y", str(world.file))
    assert not runs_ray(world.head)
    await_that(lambda: not runs_ray(world.worker))  # it ends because its head is gone
