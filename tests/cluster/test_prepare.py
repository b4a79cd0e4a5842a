"""What frozen networks make of many data is made by actors, in shards, once, and one that waits for it says so."""

import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from engine import build
from engine.cluster.prepare import LOCK, Preparer, kind_of_device, prepare
from engine.cluster.runtime import Cluster
from engine.data.cache import SHARD
from engine.io.progress import heard
from engine.specification import Specification
from engine.studies.preflight.checks import check_here
from tests.models.text.test_transformers import tiny_bert
from tests.test_prepare import BERT, FROZEN
from tests.tiny import tiny_job

CLUSTER = Cluster(joined=False, cpus=2, gpus=0, object_store_bytes=2**30)


HOLDING = """
import sys
from pathlib import Path
from engine.io.files import exclusive
with exclusive(Path(sys.argv[1]), on_wait=sys.exit):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a storage, with the weights of the small text encoder beside it."""
    monkeypatch.setenv("VLDD_WEIGHTS", str(tmp_path / "weights"))
    tiny_bert(tmp_path / "weights" / "tiny-bert")
    return tmp_path / "runs"


@pytest.fixture
def specification(storage: Path) -> Specification:
    """Return a study whose training captions are more than a shard, and its photos are not."""
    job = tiny_job(storage, "data.train_images=840", *FROZEN, BERT)
    check_here(job)
    return job.specification


def test_finished_shards_stay_and_the_others_are_made_by_actors(ray_local: None, specification: Specification) -> None:
    arrays = specification.setup(device="cpu").arrays
    captions = arrays["captions of train"]
    assert list(captions.firsts) == [0, SHARD]
    assert not any(array.here for array in arrays.values()), "nothing was made before Ray has started"
    rest = captions.make(SHARD, captions.shape[0])
    file = specification.storage / "prepared" / captions.key / "0000000000.npy"
    file.parent.mkdir(parents=True)
    np.save(file, np.full((SHARD, captions.shape[1]), 3, dtype=np.float32))  # as an earlier command has left it
    assert kind_of_device({"cpu": 1, "gpu": 0.5}) == "gpu", "Ray knows no kind here"
    prepared = prepare(specification, CLUSTER)
    assert (prepared, prepared.made_on) == (specification, "cpu")
    found = captions.open()
    assert (found[:SHARD] == 3).all()
    np.testing.assert_allclose(found[SHARD:], rest, rtol=1e-5, atol=1e-6)
    assert all(array.here for array in arrays.values())
    assert not file.parent.exists(), "the whole array is where every node sees it"
    images = specification.setup(device="cpu").datasets["val"].images
    student = build.build_setup(specification.study, specification.paths, "cpu").student
    with torch.no_grad():
        wanted = student.image.prepare(torch.from_numpy(images.copy()).float() / 255).numpy()
    np.testing.assert_array_equal(arrays["photos of val"].open(), wanted)


def test_a_command_says_for_whose_arrays_it_waits(
    ray_local: None, storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    specification, said = tiny_job(storage, *FROZEN, BERT).specification, ""
    words = [sys.executable, "-c", HOLDING, str(specification.paths.cache / LOCK)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other, ThreadPoolExecutor(1) as pool:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        preparing, began = pool.submit(prepare, specification, CLUSTER), time.monotonic()
        while not said and not preparing.done() and time.monotonic() < began + 60:
            time.sleep(0.05)
            said = capsys.readouterr().out
        waited = not preparing.done()
        other.stdin.close()
        preparing.result(60)
    assert waited
    assert said.startswith(f"These data are being prepared by process {other.pid} on {platform.node()} since 20")
    assert said.count("\n") == 1
    assert all(array.here for array in specification.setup(device="cpu").arrays.values())


def test_an_actor_says_how_far_its_shard_is(specification: Specification) -> None:
    seen: list[int] = []

    class Watched(Preparer):
        def _count(self, rows: int) -> None:
            super()._count(rows)
            seen.append(self.done())

    preparer = Watched(specification, 1)
    assert preparer.make("captions of train", 0) == SHARD
    assert seen == sorted(seen)
    assert len(seen) > 4
    assert seen[-1] == SHARD
    assert preparer.done() == 0, "the next shard begins"


def test_photos_and_captions_are_told_in_batches_to_the_innermost_listener(specification: Specification) -> None:
    arrays = specification.setup(device="cpu").arrays
    for name, rows in (("photos of train", 840), ("captions of val", 100)):
        inner: list[int] = []
        outer: list[int] = []
        with heard(outer.append):
            with heard(inner.append):
                arrays[name].make(0, rows)
            arrays[name].make(0, 3)
        arrays[name].make(0, 3)
        assert (sum(inner), outer) == (rows, [3])
