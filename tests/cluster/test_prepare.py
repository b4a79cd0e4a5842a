"""Many data are decoded and encoded by Ray, in shards, once, and one that waits for it says so."""

import platform
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine import build
from engine.cluster.prepare import LOCK, Preparer, kind_of_device, prepare
from engine.cluster.runtime import Cluster
from engine.data import cache as cache_module
from engine.data import images as images_module
from engine.data.cache import SHARD
from engine.data.records import SPLITS
from engine.data.undecodable import UndecodableError
from engine.io.paths import Paths
from engine.io.progress import heard
from engine.specification import Specification
from engine.studies.preflight.checks import check_here
from tests.data.photos import save_photos
from tests.data.sets.test_karpathy import entry, write
from tests.models.text.test_transformers import tiny_bert
from tests.test_prepare import BERT, FROZEN
from tests.tiny import tiny_job

WORDS = ("red", "blue", "green", "small", "large", "dark", "round")
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


@pytest.fixture
def photos(storage: Path, monkeypatch: pytest.MonkeyPatch) -> Specification:
    """Return a study of 21 photos, which are many here, and decoded three at once."""
    monkeypatch.setattr(cache_module, "SHARD", 4)
    monkeypatch.setattr(images_module, "SHARD", 3)
    monkeypatch.setenv("VLDD_DATA", str(storage.parent / "data"))
    monkeypatch.setenv("VLDD_CACHE", str(storage.parent / "cache"))
    made = storage.parent / "data" / "made"
    entries = []
    for split in SPLITS:
        for number, word in enumerate(WORDS):
            texts = [f"{word} {WORDS[(number + step) % 7]}" for step in (1, 2)]
            entries.append(entry(f"{split}_{number}.png", split, sentences=[{"raw": text} for text in texts]))
    save_photos(made / "images", [one["filename"] for one in entries])
    write(made / "dataset_made.json", {"images": entries})
    data = "data={name: karpathy, root: made, image_px: 8}"
    return tiny_job(storage, data, "method.num_pairs=4", "student.text.dim=7", *FROZEN).specification


def here(specification: Specification) -> dict[str, np.ndarray]:
    """Return the photos of each split as they are decoded in this process, in a cache of its own."""
    paths = replace(specification.paths, cache=specification.paths.cache / "own")
    return {split: pairs.images for split, pairs in build.data_set(specification.study).load(paths).items()}


def test_photos_that_tasks_decode_are_those_decoded_here(ray_local: None, photos: Specification) -> None:
    pixels = photos.setup(device="cpu").pixels
    assert [list(array.firsts) for array in pixels] == [[0, 3, 6]] * 3
    wanted = here(photos)
    assert not any(array.here for array in pixels)
    finished = photos.prepared / pixels[1].key / "0000000003.npy"
    finished.parent.mkdir(parents=True)
    np.save(finished, np.full((3, 3, 8, 8), 9, dtype=np.uint8))  # as a command that was killed has left it
    prepare(photos, CLUSTER)
    own = {file.name for file in (photos.paths.cache / "own" / "images").glob("*.npy")}
    assert own == {file.name for file in (photos.paths.cache / "images").glob("*.npy")}, "the keys are the same"
    np.testing.assert_array_equal(pixels[0].open(), wanted["train"])
    np.testing.assert_array_equal(pixels[2].open(), wanted["test"])
    assert (pixels[1].open()[3:6] == 9).all()
    np.testing.assert_array_equal(pixels[1].open()[[0, 1, 2, 6]], wanted["val"][[0, 1, 2, 6]])
    assert [path.suffix for path in photos.prepared.iterdir()] == [".json"], "shards are not needed any more"


def test_all_broken_photos_are_named_before_anything_is_encoded(
    ray_local: None, photos: Specification, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos.paths.data / "made" / "images"
    broken = [folder / name for name in ("train_1.png", "train_5.png", "test_6.png")]
    for file in broken:
        file.write_bytes(b"broken " + file.name.encode())
    with pytest.raises(UndecodableError, match=r"^3 of 21 images cannot be decoded: ") as wanted:
        here(photos)
    sentence = f"^{re.escape(str(wanted.value))}$"
    with monkeypatch.context() as few:
        few.setattr(cache_module, "SHARD", 7)
        with pytest.raises(UndecodableError, match=sentence):
            photos.setup(device="cpu")
    shutil.rmtree(photos.paths.cache)  # val was decoded
    arrays = photos.setup(device="cpu").arrays
    with pytest.raises(UndecodableError, match=sentence):
        prepare(photos, CLUSTER)
    made = [name for name, array in arrays.items() if array.here]
    assert made == ["pixels of val"]
    assert arrays["pixels of train"].missing() == [0, 3], "tasks have left the whole shards"
    save_photos(folder, [file.name for file in broken[:2]])
    with pytest.raises(UndecodableError, match=r"test_6\.png: expected an image, but it cannot be decoded \("):
        prepare(photos, CLUSTER)


def test_a_worker_on_another_node_reads_no_annotation_and_decodes_nothing(
    ray_local: None, photos: Specification
) -> None:
    prepared = prepare(photos, CLUSTER)
    assert prepared.list_key is not None
    setup = photos.setup(device="cpu")
    for array in setup.arrays.values():
        array.publish()  # as prepare does where there are other nodes
    shutil.rmtree(photos.paths.data)
    elsewhere = Paths(photos.paths.data, photos.paths.weights, photos.paths.cache.with_name("elsewhere"))
    there = replace(prepared, paths=elsewhere).setup(device="cpu")
    for split, pairs in setup.datasets.items():
        found = there.datasets[split]
        assert (found.image_names, found.captions) == (pairs.image_names, pairs.captions)
        np.testing.assert_array_equal(found.caption_image, pairs.caption_image)
        np.testing.assert_array_equal(found.images[:], pairs.images[:])
        np.testing.assert_array_equal(there.pairs[split].images, setup.pairs[split].images)
    assert there.arrays.keys() == {f"{kind} of {split}" for kind in ("pixels", "photos") for split in setup.datasets}
    with pytest.raises(FileNotFoundError, match=r"data\.root: 'made' is not a folder"):
        replace(photos, paths=elsewhere, made_on="another").setup(device="cpu")


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
