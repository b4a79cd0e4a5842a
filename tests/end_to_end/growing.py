"""Start a Ray whose autoscaler makes nodes with GPUs on paper, join it as a study does, and tell what came and went.

Run on a machine of its own: `ray start` takes fixed ports, and `ray stop` ends every Ray that it sees.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FAKE_HEAD_NODE_TYPE

from engine.cluster import autoscaling, runtime

KINDS = ("A10G", "L4")
COMMANDS = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")


def configuration() -> dict[str, Any]:
    """Return a cluster of a head without GPUs and of two kinds of workers, none of them there yet."""
    worker = {"resources": {"CPU": 1, "GPU": 1}, "min_workers": 0, "max_workers": 2, "node_config": {}}
    types = {kind.lower(): {**worker, "labels": {autoscaling.LABEL: kind}} for kind in KINDS}
    return {
        "cluster_name": "growing",
        "max_workers": 4,
        "idle_timeout_minutes": 0.1,
        # By the name of its class: the wheels lack the file of defaults that Ray reads for its own name of it.
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "launch_multiple": True,
            "head_node_id": FAKE_HEAD_NODE_ID,
        },
        "available_node_types": {
            FAKE_HEAD_NODE_TYPE: {"resources": {"CPU": 1}, "max_workers": 0, "node_config": {}},
            **types,
        },
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        # What Ray's defaults of any other provider would say.
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
        **{f"{kind}_commands": [] for kind in COMMANDS},
    }


def start(file: Path) -> None:
    """Start the head with the autoscaler that the shipped cloud files get from ``ray up``."""
    file.write_text(json.dumps(configuration()), encoding="utf-8")
    autoscaler = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_NODE_TYPE_NAME": FAKE_HEAD_NODE_TYPE,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        "RAY_FAKE_CLUSTER": "1",
    }
    words = ["ray", "start", "--head", "--num-cpus=1", f"--autoscaling-config={file}", "--include-dashboard=false"]
    subprocess.run(words, env={**os.environ, **autoscaler}, check=True, stdout=subprocess.DEVNULL)


def kinds() -> list[str]:
    """Return the kinds of the GPUs that are there."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
    return sorted(node["Labels"][autoscaling.LABEL] for node in nodes)


def main(file: Path) -> None:
    """Grow as ``VLDD_GPUS`` says, and see the machines that no task needs go again."""
    start(file)
    try:
        gpus = runtime.start().gpus
        print(json.dumps({"gpus": gpus, "kinds": kinds()}))
        while kinds():
            time.sleep(0.5)
        print("gone")
    finally:
        ray.shutdown()
        subprocess.run(["ray", "stop", "--force"], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
