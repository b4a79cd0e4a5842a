"""Inputs of the trained parts are made once for one encoder, data, device and precision, and when they are needed."""

import gc
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine import build, prepare
from engine.config.load import load, resolve
from engine.config.schema import Resolved
from engine.data.pairs import PairDataset
from engine.data.records import SPLITS
from engine.io.paths import Paths
from engine.models.text import TextEncoder, tfidf, transformers
from engine.prepare import Place, image_arrays, is_network, text_arrays
from tests.models.text.test_transformers import tiny_bert
from tests.tiny import SPACE

CPU = torch.device("cpu")
FROZEN = ("student.image={encoder: convnet, width: 8, depth: 2, grid: 1, train: frozen, head: mlp}",)
BERT = "student.text={encoder: transformers, model: tiny-bert, head: linear, max_length: 16, train: frozen}"


class LengthEncoder:
    """Embeds a caption as its length; remembers what it was asked."""

    dim = 2

    def __init__(self, key: str, network: nn.Module | None = None) -> None:
        self.key, self.network = key, network
        self.asked: list[str] = []

    def fit(self, captions: Sequence[str]) -> None:
        """Nothing to fit."""

    def to(self, device: torch.device) -> "LengthEncoder":
        return self

    def embed(self, captions: Sequence[str]) -> Tensor:
        self.asked.extend(captions)
        return torch.tensor([[len(caption), 1.0] for caption in captions])


def study(*overrides: str) -> Resolved:
    return resolve(load(SPACE, overrides))


def splits(captions: Sequence[str]) -> dict[str, PairDataset]:
    """Return three splits, each of which has these captions."""
    images, own = np.zeros((len(captions), 3, 1, 1), dtype=np.uint8), tuple(captions)
    return dict.fromkeys(SPLITS, PairDataset(images, own, own, np.arange(len(own))))


def embedded(encoder: LengthEncoder | tfidf.TfidfEncoder, captions: Sequence[str], place: Place) -> np.ndarray:
    return text_arrays(study(), place, encoder, splits(captions), CPU)["train"].open()


def test_captions_are_embedded_once_in_order(tmp_path: Path) -> None:
    captions = ["a" * (index % 7) for index in range(5000)]  # more than a shard
    first = embedded(LengthEncoder("x"), captions, Place(tmp_path))
    encoder = LengthEncoder("x")
    again = embedded(encoder, captions, Place(tmp_path))
    assert encoder.asked == []
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(again[:, 0], [len(caption) for caption in captions])
    assert isinstance(again, np.memmap)


def test_other_encoder_or_captions_are_embedded_anew(tmp_path: Path) -> None:
    embedded(LengthEncoder("x"), ["ab", "c"], Place(tmp_path))
    for key, captions in (("y", ["ab", "c"]), ("x", ["a", "bc"]), ("x", ["c", "ab"])):
        encoder = LengthEncoder(key)
        embedded(encoder, captions, Place(tmp_path))
        assert encoder.asked == captions


def test_refitted_encoder_is_another_encoder(paths: Paths) -> None:
    encoder = tfidf.build(paths, dim=2)
    captions = ["red ball", "blue box", "red box on blue ball"]
    encoder.fit(captions)
    first = embedded(encoder, captions, Place(paths.cache))
    encoder.fit([*captions, "green star above red ball"])
    second = embedded(encoder, captions, Place(paths.cache))
    assert len(list(paths.cache.rglob("*.npy"))) == 2
    assert not np.allclose(first, second)


def test_keys_name_device_and_precision_of_networks_alone(paths: Paths) -> None:
    usual, gpu = Place(paths.cache), Place(paths.cache, made_on="H100")
    setup = build.build_setup(study(*FROZEN), paths)

    def keys(place: Place, precision: str) -> tuple[str, str, str]:
        chosen, data = study(*FROZEN, f"precision={precision}"), setup.datasets
        photos = image_arrays(chosen, place, setup.student, data, CPU)
        encoders = LengthEncoder("x", nn.Linear(1, 1)), LengthEncoder("x")
        return photos["val"].key, *(text_arrays(chosen, place, one, data, CPU)["val"].key for one in encoders)

    found = [keys(place, precision) for place in (usual, gpu) for precision in ("fp32", "bf16")]
    photos, network, other = (set(column) for column in zip(*found, strict=True))
    assert (len(photos), len(network), len(other)) == (4, 4, 1)
    assert keys(usual, "fp32")[1] == keys(usual, "fp32")[2], "the usual ones are not named"


def test_arrays_of_other_code_or_another_mean_are_made_again(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    setup, place = build.build_setup(study(*FROZEN), paths), Place(paths.cache)

    def keys() -> list[str]:
        photos = image_arrays(study(*FROZEN), place, setup.student, setup.datasets, CPU)
        captions = text_arrays(study(*FROZEN), place, LengthEncoder("x"), setup.datasets, CPU)
        return [photos["val"].key, captions["val"].key]

    before = keys()
    assert keys() == before
    dict(setup.student.image.frozen.named_buffers())["mean"].add_(0.1)
    moved = keys()
    assert (moved[0] != before[0], moved[1] == before[1]) == (True, True)
    monkeypatch.setattr(prepare, "source_digest", lambda *names: "other")
    assert {*keys()}.isdisjoint({*before, *moved})


def test_an_encoder_whose_captions_are_embedded_is_freed(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_bert(paths.weights / "tiny-bert")
    built: list[weakref.ref[TextEncoder]] = []
    fitted = build.fitted_encoder

    def recorded(*given: Any) -> TextEncoder:
        encoder = fitted(*given)
        built.append(weakref.ref(encoder))
        return encoder

    monkeypatch.setattr(build, "fitted_encoder", recorded)
    setup = build.build_setup(study(*FROZEN, BERT), paths)
    list(setup.pairs.values())
    gc.collect()
    assert [encoder() for encoder in built] == [None, None]


def test_networks_run_when_pairs_are_read(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_bert(paths.weights / "tiny-bert")
    encoder = transformers.build(paths, model="tiny-bert", max_length=16)
    assert is_network(encoder)
    assert not is_network(tfidf.build(paths))
    setup = build.build_setup(study(*FROZEN, BERT), paths)
    assert sorted(setup.arrays) == [f"{kind} of {split}" for kind in ("captions", "photos") for split in sorted(SPLITS)]
    assert setup.text_shape() == (encoder.dim,)
    assert not any(array.here for array in setup.arrays.values())
    val = setup.pairs["val"]
    here = [name for name, array in setup.arrays.items() if array.here]
    assert here == ["captions of train", "captions of val", "captions of test", "photos of val"]
    assert val is setup.pairs["val"]
    captions = setup.datasets["val"].captions
    np.testing.assert_array_equal(val.texts, encoder.embed(captions).numpy())
    pixels = torch.from_numpy(setup.datasets["val"].images.copy()).float() / 255
    with torch.no_grad():
        np.testing.assert_array_equal(val.images, setup.student.image.prepare(pixels).numpy())
    assert len(setup.pairs) == 3
    with pytest.raises(KeyError):
        setup.pairs["all"]
