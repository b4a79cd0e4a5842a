"""What frozen networks make of many data is made by actors, in shards, once."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine import build
from engine.cluster.prepare import Preparer, kind_of_device, prepare
from engine.cluster.runtime import Cluster
from engine.data.cache import SHARD
from engine.io.progress import heard
from engine.specification import Specification
from engine.studies.preflight.checks import check_here
from tests.models.text.test_transformers import tiny_bert
from tests.test_prepare import BERT, FROZEN
from tests.tiny import tiny_job

CLUSTER = Cluster(joined=False, cpus=2, gpus=0, object_store_bytes=2**30)


@pytest.fixture
def specification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Specification:
    """Return a study whose training captions are more than a shard, and its photos are not."""
    monkeypatch.setenv("VLDD_WEIGHTS", str(tmp_path / "weights"))
    tiny_bert(tmp_path / "weights" / "tiny-bert")
    job = tiny_job(tmp_path / "runs", "data.train_images=840", *FROZEN, BERT)
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
