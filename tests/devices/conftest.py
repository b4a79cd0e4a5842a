"""The device that these tests compare with the CPU.

By default it is simulated, and only the rows that differ most run. ``VLDD_DEVICE=cuda`` runs every row on a real GPU,
``VLDD_DEVICE=fake`` every row on the simulated one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from engine.io.paths import Paths
from tests.devices.fake_gpu import Ledger, fake_gpu
from tests.devices.studies import Bench

DEVICE = os.environ.get("VLDD_DEVICE", "")
if DEVICE not in ("", "fake", "cuda"):
    raise ValueError(f"VLDD_DEVICE is {DEVICE!r}, expected fake or cuda.")


@contextmanager
def other_device() -> Iterator[tuple[torch.device, Ledger]]:
    """Yield the device, and a ledger that stays empty on a real GPU."""
    if DEVICE == "cuda":
        yield torch.device("cuda", 0), Ledger()
        return
    with fake_gpu() as given:
        yield given


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Return the setups of this module's rows, which share their encoders and caches."""
    folder = tmp_path_factory.mktemp("devices")
    made = Bench(Paths(data=folder / "data", weights=folder / "weights", cache=folder / "cache"))
    made.prepare()
    return made
