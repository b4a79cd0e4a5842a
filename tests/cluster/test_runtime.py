"""Resources of a cluster are counted in Ray's units, and a worker without a GPU sees none."""

import json
import os
import re
import subprocess
import sys
import tempfile

import pytest

from engine.cluster.runtime import Cluster


@pytest.mark.parametrize(
    ("cpu", "gpu", "slots"),
    [(1, 0.2, 10), (1, 0.1, 16), (0.5, 0.5, 4), (0.1, 0, 160), (0, 0, 16), (0, 0.1, 20), (32, 0, 1)],
)
def test_as_many_holders_fit_as_ray_counts(cpu: float, gpu: float, slots: int) -> None:
    assert Cluster(joined=False, cpus=16, gpus=2, object_store_bytes=1.0).slots({"cpu": cpu, "gpu": gpu}) == slots


# Every kind of worker that computes with torch: a scoring task, an expert's actor, one that prepares data and a trial;
# each with and without a GPU, in workers that start without our setting, as those of a joined cluster do.
SEEN = """
import json, os, re, sys
from pathlib import Path
from types import SimpleNamespace
import ray
from ray import tune
from ray.exceptions import RayError
from engine import build
from engine.cluster.errors import as_plain_error
from engine.cluster.experts.actor import ExpertTrainer
from engine.cluster.prepare import Preparer
from engine.cluster.scoring import _write
from engine.cluster.search.trial import DistillTrial

def seen(*ignored):
    visible = os.environ["CUDA_VISIBLE_DEVICES"]
    return {"visible": visible, "device": str(build.default_device()), "process": os.getpid()}

class Expert(ExpertTrainer):
    def seen(self):
        return seen()

class Preparing(Preparer):
    def seen(self):
        return seen()

class Trial(DistillTrial):
    def _build(self, config):
        pass
    def seen(self):
        return seen() if self.refusal is None else self.refusal

def answer(waited):
    try:
        return ray.get(waited)
    except RayError as error:
        return str(as_plain_error(error))

ray.init(address="local", num_cpus=4, num_gpus=4, include_dashboard=False, _temp_dir=sys.argv[1],
         object_store_memory=100 * 2**20, log_to_driver=False, logging_level="ERROR")
found, any_study = {}, SimpleNamespace(study=SimpleNamespace(precision="fp32"))
for gpus in (0, 1):
    given = (Path(sys.argv[1]) / "result.json", seen, any_study)
    task = ray.remote(_write).options(num_cpus=1, num_gpus=gpus).remote(*given)
    expert = ray.remote(Expert).options(num_cpus=1, num_gpus=gpus).remote(None, 1.0)
    preparing = ray.remote(Preparing).options(num_cpus=1, num_gpus=gpus).remote(None, 1.0)
    given = {"specification": SimpleNamespace(study=None, storage=Path()), "folder": Path("."), "cpus": 1.0}
    kind = tune.with_parameters(Trial, **given)
    trial = ray.remote(kind).options(num_cpus=0, num_gpus=gpus).remote(config={})
    found[gpus] = [answer(one) for one in (task, expert.seen.remote(), preparing.seen.remote(), trial.seen.remote())]
print(json.dumps(found))
"""


def test_a_worker_without_a_gpu_sees_none_and_one_with_a_gpu_must() -> None:
    with tempfile.TemporaryDirectory(prefix="vldd-", dir="/tmp") as folder:
        done = subprocess.run(
            [sys.executable, "-c", SEEN, folder],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "0,1,2,3", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [(worker["visible"], worker["device"]) for worker in found["0"]] == [("", "cpu")] * 4
    assert all("sees none there, expected a torch and a driver that do" in worker for worker in found["1"]), found
    assigned = {re.search(r"resources: Ray assigned GPU (\d) of node ", worker)[1] for worker in found["1"]}
    assert len(assigned) == 4, "two workers were assigned the same GPU"
