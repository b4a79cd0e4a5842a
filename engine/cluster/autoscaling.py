"""Waiting for the GPUs of a cluster that grows on demand: a study is sized by what a cluster has as it begins."""

import os
import re
import time
from dataclasses import dataclass

import ray
from ray.autoscaler.sdk import request_resources
from tqdm import tqdm

VARIABLE = "VLDD_GPUS"
LABEL = "ray.io/accelerator-type"
PATIENCE_S = 1800.0


@dataclass(frozen=True)
class Wanted:
    """So many GPUs, of one type of Ray's names for them or of any."""

    count: int
    kind: str | None

    def present(self) -> int:
        """Return how many there are by now."""
        nodes = [node for node in ray.nodes() if node["Alive"]]
        fitting = [node for node in nodes if self.kind in (None, node["Labels"].get(LABEL))]
        return int(sum(node["Resources"].get("GPU", 0) for node in fitting))

    def request(self) -> None:
        """Have the autoscaler start what is missing."""
        selector = {LABEL: self.kind} if self.kind else {}
        request_resources(bundles=[{"GPU": 1}] * self.count, bundle_label_selectors=[selector] * self.count)


def wanted() -> Wanted | None:
    """Return what ``VLDD_GPUS`` asks for, as in ``4`` or ``A10G:4``, or None where it is not set.

    Raises:
        ValueError: it is something else.
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
    """Have the joined cluster grow to what ``VLDD_GPUS`` asks for and wait until it is there; no variable, no wait.

    The request is withdrawn afterwards in any case: machines that no task needs any more go when they have idled.

    Raises:
        ValueError: the variable cannot be read.
        RuntimeError: the GPUs do not come.
    """
    if (gpus := wanted()) is None or gpus.present() >= gpus.count:
        return
    gpus.request()
    try:
        _wait(gpus)
    finally:
        request_resources(bundles=[])


def _wait(gpus: Wanted) -> None:
    began = time.monotonic()
    with tqdm(total=gpus.count, desc="waiting for GPUs", unit="GPU", disable=None) as bar:
        while bar.n < gpus.count:
            if time.monotonic() - began > PATIENCE_S:
                raise RuntimeError(
                    f"{VARIABLE} asks for {gpus.count} GPUs, but after {PATIENCE_S:g} s the cluster has {bar.n}; "
                    "'ray status' on its head says what it waits for."
                )
            time.sleep(1)
            bar.n = gpus.present()
            bar.refresh()
