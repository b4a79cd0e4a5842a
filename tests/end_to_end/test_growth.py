"""A cluster that begins without GPUs gets those that a study waits for, of the kind it names, and loses them again."""

import json

import pytest

from tests.end_to_end.conftest import World
from tests.end_to_end.machines import make_environment

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def test_gpus_come_by_their_label_and_go_when_they_idle(world: World) -> None:
    own = world.shared / "growing"
    make_environment(own, project=True)

    said = world.on_head(
        f"{own}/bin/python",
        "-m",
        "tests.end_to_end.growing",
        str(own / "cluster.json"),
        variables={
            "PATH": f"{own}/bin:/usr/bin:/bin",
            "RAY_AUTH_MODE": "disabled",
            "RAY_TMPDIR": str(world.shared / "tmp"),
            "VLDD_GPUS": "L4:2",
        },
    )

    lines = said.splitlines()
    assert json.loads(next(line for line in lines if line.startswith("{"))) == {"gpus": 2, "kinds": ["L4", "L4"]}
    assert "gone" in lines
