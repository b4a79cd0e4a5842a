"""Wait for the GPUs of a cluster that grows on demand, since a study is planned by the cluster's size at its start."""

import os
import re
import time
from dataclasses import dataclass

import ray
from ray.autoscaler.sdk import request_resources

from engine.io.progress import bar

VARIABLE = "VLDD_GPUS"
LABEL = "ray.io/accelerator-type"
PATIENCE_S = 1800.0


@dataclass(frozen=True)
class Wanted:
    """A number of GPUs, of one accelerator type of Ray or, for None, of any."""

    count: int
    kind: str | None

    def present(self) -> int:
        """Return how many of these GPUs the cluster has now."""
        nodes = [node for node in ray.nodes() if node["Alive"] and self.kind in (None, node["Labels"].get(LABEL))]
        return int(sum(node["Resources"].get("GPU", 0) for node in nodes))


def wanted() -> Wanted | None:
    """Return the GPUs that ``VLDD_GPUS`` asks for, as in ``4`` or ``A10G:4``, or None if it is not set.

    Raises:
        ValueError: the variable has another form.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return None
    found = re.fullmatch(r"(?:([\w-]+):)?([1-9]\d*)", text)
    if found is None:
        raise ValueError(
            f"{VARIABLE} is {text!r}, expected a number of GPUs as in 4, or their type with it as in A10G:4."
        )
    return Wanted(int(found[2]), found[1])


def await_gpus() -> None:
    """Let the joined cluster grow to the GPUs of ``VLDD_GPUS`` and wait for them; do nothing without the variable.

    The request is withdrawn afterwards in any case, so that idle machines can go.

    Raises:
        ValueError: the variable cannot be read.
        RuntimeError: the GPUs do not come within ``PATIENCE_S`` seconds.
    """
    if (gpus := wanted()) is None or gpus.present() >= gpus.count:
        return
    selector = {LABEL: gpus.kind} if gpus.kind else {}
    request_resources(bundles=[{"GPU": 1}] * gpus.count, bundle_label_selectors=[selector] * gpus.count)
    deadline = time.monotonic() + PATIENCE_S
    try:
        with bar("waiting for GPUs", total=gpus.count, unit="GPUs") as progress:
            while progress.done < gpus.count:
                if time.monotonic() > deadline:
                    raise RuntimeError(
                        f"{VARIABLE} asks for {gpus.count} GPUs, but after {PATIENCE_S:g} s the cluster has "
                        f"{progress.done}; 'ray status' on its head says what it waits for."
                    )
                time.sleep(1)
                progress.move(gpus.present())
    finally:
        request_resources(bundles=[])
