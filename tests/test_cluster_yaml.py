"""The shipped cluster files against Ray's own schema, and what a schema cannot see."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.util.accelerators import accelerators

ROOT = Path(__file__).resolve().parents[1]
LAUNCHED = ["ray_cluster.yaml", "clusters/aws.yaml", "clusters/gcp.yaml"]
CLOUDS = LAUNCHED[1:]
GPU_TYPES = {getattr(accelerators, name) for name in dir(accelerators) if name.startswith("NVIDIA")}
LABEL = "ray.io/accelerator-type"


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


@pytest.fixture(params=LAUNCHED)
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    return read(request.param)


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest) -> dict[str, Any]:
    return read(request.param)


@pytest.fixture
def job() -> dict[str, Any]:
    return read("clusters/kuberay.yaml")["spec"]


def test_every_cluster_file_is_checked_here() -> None:
    there = {path.name for path in (ROOT / "clusters").iterdir()}
    assert there == {"Dockerfile", "aws.yaml", "gcp.yaml", "kuberay.yaml", "slurm.sbatch"}


def test_ray_accepts_the_file(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))


def test_a_typo_would_be_refused(cluster: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="setup_comands"):
        validate_config(prepare_config(cluster | {"setup_comands": []}))


def test_the_project_is_mounted_installed_and_constrained(cluster: dict[str, Any]) -> None:
    (folder,) = (there for there, here in cluster["file_mounts"].items() if here == ".")
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


def test_the_dashboard_is_on_loopback(cluster: dict[str, Any]) -> None:
    hosts = re.findall(r"--dashboard-host=(\S+)", cluster["head_start_ray_commands"][-1])
    assert hosts in ([], ["127.0.0.1"])  # loopback is Ray's default too


def test_listed_machines_are_all_started() -> None:
    assert " RAY_enable_autoscaler_v2=0 " in read("ray_cluster.yaml")["head_start_ray_commands"][-1]


def test_the_mode_of_authentication_is_said_for_every_shell(cluster: dict[str, Any]) -> None:
    # Unsaid, `ray start` asks for a token where one lies around, and drivers and other machines do not offer it.
    (line,) = (command for command in cluster["setup_commands"] if " RAY_AUTH_MODE=" in command)
    assert line.endswith("> ~/.vldistill")
    assert any(command.endswith("echo '. ~/.vldistill' >> ~/.bashrc") for command in cluster["setup_commands"])


def test_clouds_ask_for_the_token_and_spill_where_there_is_room(cloud: dict[str, Any]) -> None:
    assert cloud["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any(" RAY_AUTH_MODE=token" in command for command in cloud["setup_commands"])
    for kind in ("head", "worker"):
        start = cloud[f"{kind}_start_ray_commands"][-1]
        assert " RAY_AUTH_MODE=token " in start
        assert " --object-spilling-directory=/" in start


def test_gpus_come_from_zero_by_their_label(cloud: dict[str, Any]) -> None:
    types = dict(cloud["available_node_types"])
    head = types.pop(cloud["head_node_type"])
    assert "GPU" not in head["resources"]
    assert len(types) > 1
    for kind in types.values():
        assert kind["min_workers"] == 0
        assert kind["resources"]["GPU"] > 0
    labels = {kind["labels"][LABEL] for kind in types.values()}
    assert labels <= GPU_TYPES
    assert any(f" VLDD_GPUS={label}:" in command for label in labels for command in cloud["setup_commands"])


def test_the_job_of_kubernetes_asks_for_the_token_and_grows_from_zero(job: dict[str, Any]) -> None:
    cluster = job["rayClusterSpec"]
    assert f"ray=={cluster['rayVersion']}\n" in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"]
    environment = yaml.safe_load(job["runtimeEnvYAML"])["env_vars"]
    (workers,) = cluster["workerGroupSpecs"]
    assert (workers["replicas"], workers["minReplicas"]) == (0, 0)
    assert environment["VLDD_GPUS"] == f"{workers['labels'][LABEL]}:{workers['maxReplicas']}"
    for group in (cluster["headGroupSpec"], workers):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert mounted.keys() == {"/shared", "/spill"}
        assert set(mounted.values()) == {volume["name"] for volume in pod["volumes"]}
        assert group["rayStartParams"]["object-spilling-directory"] == "/spill"


FILES = [ROOT / "ray_cluster.yaml", *sorted((ROOT / "clusters").iterdir())]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_secret_is_written_down(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"AUTH_TOKEN=|\b[0-9a-f]{32}|BEGIN [A-Z ]*PRIVATE KEY|AKIA[0-9A-Z]{16}", text)
