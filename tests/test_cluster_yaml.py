"""The shipped cluster file against Ray's own schema, and what a schema cannot see."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "ray_cluster.yaml").read_text(encoding="utf-8"))


def test_ray_accepts_the_file(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))


def test_a_typo_would_be_refused(cluster: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="setup_comands"):
        validate_config(prepare_config(cluster | {"setup_comands": []}))


def test_the_project_is_mounted_installed_and_constrained(cluster: dict[str, Any]) -> None:
    (folder,) = cluster["file_mounts"]
    install = cluster["setup_commands"][-1]
    assert f"-c {folder}/constraints.txt -e {folder}" in install


def test_exclusions_leave_the_package_whole(cluster: dict[str, Any]) -> None:
    names = {path.name for path in (ROOT / "engine").rglob("*") if "__pycache__" not in path.parts}
    assert names & {"data"}, "the case this test is about"
    assert not names & set(cluster["rsync_exclude"])
    assert {"/.git", "/.venv", "/runs", "/data", "/weights"} <= set(cluster["rsync_exclude"])


def test_every_machine_gets_the_head_address_and_no_usage_report(cluster: dict[str, Any]) -> None:
    assert "--address=$RAY_HEAD_IP:6379" in cluster["worker_start_ray_commands"][-1]
    assert "--head --port=6379" in cluster["head_start_ray_commands"][-1]
    for start in (cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]):
        assert start[0].endswith("ray stop")
        assert "--disable-usage-stats" in start[-1]
