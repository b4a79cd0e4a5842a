"""What holds for every test: fixed threads, shapes checked at run time, a silent Ray, and where the data lie."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jaxtyping import install_import_hook

# Read once, when the libraries are imported, here and in every process a test starts.
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # no test reaches the network
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OMP_NUM_THREADS": "1",  # bitwise comparisons need equal thread counts, and two processes of tests share two cores
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_AUTH_MODE": "disabled",  # loopback only; otherwise ~/.ray/auth_token is written and changes later clusters
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "VLDD_PROGRESS_S": "100000",  # lines of progress would depend on how fast this machine is
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)

# Shapes and types are checked everywhere but in the modules of the configuration, where pydantic does it, and in
# engine/cluster, whose functions travel to Ray's workers by pickle, which checked ones cannot.
ENGINE = Path(__file__).resolve().parents[1] / "engine"
UNCHECKED = {"config", "cluster", "specification", "studies"}
CHECKED = {path.stem for path in ENGINE.iterdir() if not path.stem.startswith("_")} - UNCHECKED
install_import_hook([f"engine.{name}" for name in sorted(CHECKED)], "tests.typecheck.checked")

import pytest  # noqa: E402
import torch  # noqa: E402

import tests.typecheck  # noqa: E402, F401
from engine.io.paths import Paths  # noqa: E402

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

pytest_plugins = ["tests.finished"]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Return places in a folder of this test alone; nothing lies there yet."""
    return Paths(data=tmp_path / "data", weights=tmp_path / "weights", cache=tmp_path / "cache")


@pytest.fixture(scope="session")
def flickr8k() -> Path:
    """Return the folder of Flickr8k, or skip."""
    return existing(Path(os.environ.get("VLDD_DATA", "data")).absolute() / "flickr8k", "VLDD_DATA")


@pytest.fixture(scope="session")
def weights() -> Path:
    """Return the folder of pretrained weights, or skip."""
    return existing(Path(os.environ.get("VLDD_WEIGHTS", "weights")).absolute(), "VLDD_WEIGHTS")


def existing(folder: Path, variable: str) -> Path:
    """Return ``folder``, or skip the test where it does not exist."""
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist; {variable} names the folder to look in")
    return folder


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """Start one local Ray of two processors for all tests that ask for it."""
    import ray

    if ray.is_initialized():
        ray.shutdown()
    folder = tempfile.mkdtemp(prefix="vldd-", dir="/tmp")  # a socket's path may have 107 characters, tmp_path has more
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=300 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=folder,
    )
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
