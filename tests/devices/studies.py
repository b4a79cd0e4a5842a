"""The rows of the device tests: small studies of every method, gradient, scope, option and kind of student."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from engine import build
from engine.build import Setup
from engine.config import components
from engine.config.load import Resolved, load, resolve
from engine.experts.train import train_expert
from engine.experts.trajectory import MemorySource
from engine.io.paths import Paths
from engine.tensors import Params
from tests.models.clips import register_tiny_clip
from tests.models.text.test_transformers import tiny_bert

CPU = torch.device("cpu")
SPACE = Path(__file__).parents[1] / "tiny.yaml"
SHARED = (
    "data={name: shapes, image_px: 16, train_images: 40, val_images: 12, test_images: 12}",
    "student.embed_dim=16",
    "experts={count: 2, lr: 0.03, batch_size: 32}",
    "search={}",
    "optimiser={image_lr: 0.02, text_lr: 0.05, log_lr: 0.02, similarity_lr: 0.01, clip: 1.0, ema: 0.9}",
    "protocol={epochs: 2, seeds: 1, learning_rates: [0.1], select_step: last, select_epoch: best_on_val}",
)
CONVNET = "student.image={encoder: convnet, width: 8, depth: 2, grid: 1, head: mlp, train: %s}"
TIMM = "student.image={encoder: timm, pretrained: false, head: mlp, model: %s, train: %s}"
CLIP = "student.image={encoder: open_clip, model: tiny-clip, head: linear, train: %s}"
TFIDF = "student.text={encoder: tfidf, dim: 16, train: frozen, head: mlp}"
BERT = "student.text={encoder: transformers, model: tiny-bert, head: linear, max_length: 16, train: %s}"
SCOPES = {
    "heads": (CONVNET % "frozen", TFIDF),
    "full": (CONVNET % "full", TFIDF),
    "lora": (CONVNET % "lora", BERT % "lora"),
    "both full": (CONVNET % "full", BERT % "full"),
}
STUDENTS = {
    "convnet, grid that does not divide": (CONVNET.replace("grid: 1", "grid: 3") % "full", TFIDF),
    "convnet as by default": ("student.image={encoder: convnet, train: full, head: mlp}", TFIDF),
    "mobilenetv1": ("student.image={encoder: mobilenetv1, width: 0.25, train: full, head: mlp}", TFIDF),
    "timm nfnet": (TIMM % ("test_nfnet", "full"), BERT % "frozen"),
    "timm nfnet, lora": (TIMM % ("test_nfnet", "lora"), TFIDF),
    "timm vit": (TIMM % ("test_vit, image_px: 32", "full"), BERT % "full"),
    "timm resnet": (TIMM % ("test_resnet", "full"), TFIDF),
    "timm efficientnet, lora": (TIMM % ("test_efficientnet", "lora"), TFIDF),
    "open_clip": (CLIP % "full", TFIDF),
    "open_clip, lora": (CLIP % "lora", TFIDF),
}
DEFAULT_STUDENTS = ("convnet as by default", "mobilenetv1", "timm nfnet", "open_clip")
"""Students whose outer steps CUDA repeats bit by bit."""
MORE = {
    "init kmeans": "name: bi_trajectory, inner_steps: 2, init: {image: kmeans, text: kmeans}",
    "init noise": "name: bi_trajectory, inner_steps: 2, init: {image: noise, text: noise}",
    "shortcut": "name: bi_trajectory, inner_steps: 2, shortcut: 3, span: 1, max_start: 2",
    "real pairs": "name: bi_trajectory, inner_steps: 2, real_weight: 0.5, real_batch: 16",
    "asynchronous": "name: bi_trajectory, inner_steps: 2, text_max_start: 2, distance: joint",
    "lors kl, full": "name: lors, inner_steps: 2, loss: kl, similarity: {kind: full}, gradient: exact",
    "lors bce": "name: lors, inner_steps: 2, loss: bce",
    "lors info_nce": "name: lors, inner_steps: 2, loss: info_nce",
    "warm-up": "name: through_training, warmup_steps: 3, inner_steps: 2, similarity: {kind: full}, loss: wbce",
    "pyramid, views": "name: bi_trajectory, inner_steps: 2, images: pyramid, finest: 8, "
    "views: {count: 2, crop: [0.5, 0.9], noise: 0.05}",
    "mosaics, pyramid": "name: lors, inner_steps: 2, tiles: 2, images: pyramid, init: {image: kmeans, text: kmeans}",
    "views of mdm": "name: mdm, max_epoch: 2, bound: 0.1, views: {crop: [0.5, 1.0]}",
    "covmatch reset": "name: covmatch, reset_every: 1, init: {image: kmeans, text: noise}",
}
"""Options of a method, on the student that is trained in full."""
USUAL = {
    ("both full", "bi_trajectory", "exact"),
    ("full", "lors", "truncated"),
    ("heads", "lors", "stored"),
    ("heads", "repblend", "exact"),
    ("full", "through_training", "exact"),
}
"""Rows of a scope, a method and a gradient that run by default."""


@dataclass(frozen=True)
class Row:
    """One study: words that make its student, and words that make the rest."""

    name: str
    student: tuple[str, ...]
    rest: tuple[str, ...]
    usual: bool = False
    """Run by default; the other rows run where VLDD_DEVICE is set."""


def steps() -> Iterator[Row]:
    """Yield the rows that take outer steps."""
    for scope, student in SCOPES.items():
        for method in components.names("method"):
            fields = components.find("method", method).__dataclass_fields__  # type: ignore[attr-defined]
            if scope != "heads" and "frozen_encoders" in components.find("method", method).needs:  # type: ignore[attr-defined]
                continue
            if "gradient" not in fields:
                short = ", max_epoch: 2" if "max_epoch" in fields else ""
                words = (f"method={{name: {method}, num_pairs: 8{short}}}",)
                yield Row(f"{scope}, {method}", student, words, scope == "full")
                continue
            for gradient in ("exact", "stored", "truncated"):
                inner = f"inner_steps: 2, inner_batch: 4, gradient: {gradient}"
                usual = (scope, method, gradient) in USUAL
                words = (f"method={{name: {method}, num_pairs: 8, {inner}}}",)
                yield Row(f"{scope}, {method}, {gradient}", student, words, usual)
    for method in components.names("method"):
        found = components.find("method", method)
        scope = "heads" if "frozen_encoders" in found.needs else "full"  # type: ignore[attr-defined]
        fewer = {"max_epoch": 2, "inner_steps": 2}
        short = "".join(f", {key}: {number}" for key, number in fewer.items() if key in found.__dataclass_fields__)  # type: ignore[attr-defined]
        words = ("precision=bf16", f"method={{name: {method}, num_pairs: 8{short}}}")
        yield Row(f"bf16, {method}", SCOPES[scope], words, True)
    for name, options in MORE.items():
        usual = name in ("init kmeans", "real pairs", "pyramid, views", "mosaics, pyramid")
        yield Row(name, SCOPES["full"], (f"method={{num_pairs: 8, {options}}}",), usual)
    plain, both = "method={name: bi_trajectory, num_pairs: 8, inner_steps: 2}", SCOPES["both full"]
    augmented = (
        "experts.augmentation=crop_flip",
        "experts.captions=one",
        "method={name: mdm, num_pairs: 8, max_epoch: 2}",
    )
    yield Row("augmentation", SCOPES["full"], augmented, True)
    many = "method={name: bi_trajectory, num_pairs: 150, inner_steps: 2}"
    yield Row("pixels encoded in chunks", SCOPES["heads"], ("data.train_images=160", many), True)
    noise = "method={name: bi_trajectory, num_pairs: 8, inner_steps: 2, init: {image: noise, text: noise}}"
    yield Row("noise of tokens", both, (noise,))
    sgd = ("optimiser.name=sgd", "optimiser.momentum=0.5", "optimiser.image_lr=1.0", "optimiser.text_lr=1.0")
    yield Row("sgd", SCOPES["full"], (*sgd, plain))
    small = "method={name: bi_trajectory, num_pairs: 6, inner_steps: 2}"
    for name, student in STUDENTS.items():
        yield Row(name, student, ("data.image_px=32", small), name == "open_clip, lora")


@dataclass
class Bench:
    """Setups and experts of the rows; those of one student, one set of images and one precision are made once."""

    paths: Paths
    _setups: dict[tuple[object, ...], Setup] = field(default_factory=dict)
    _experts: dict[tuple[object, ...], list[dict[int, Params]]] = field(default_factory=dict)

    def prepare(self) -> None:
        """Write the weights of the small encoders."""
        self.paths.weights.mkdir(parents=True)
        tiny_bert(self.paths.weights / "tiny-bert")
        register_tiny_clip(self.paths.weights)

    def study(self, row: Row) -> Resolved:
        """Return the configuration of a row."""
        return resolve(load(SPACE, [*SHARED, *row.student, *row.rest]))

    def setup(self, row: Row, device: torch.device) -> Setup:
        """Return the data and the student of a row on a device.

        A frozen encoder has a GPU's layout on the CPU, too. In the CPU's own a convolution adds in another order, and
        where a pixel's gradient is as small as Adam's epsilon, a rounding of it is some per cent of Adam's first step.
        """
        study = self.study(row)
        key = (device, study.precision, row.student, study.data.model_dump_json())
        if key not in self._setups:
            self._setups[key] = build.build_setup(study, self.paths, str(device))
            self._setups[key].student.image.frozen.to(memory_format=torch.contiguous_format)
            list(self._setups[key].pairs.values())  # made now, and on this device
        return self._setups[key]

    def experts(self, row: Row) -> MemorySource:
        """Return two experts of a row, trained on the CPU."""
        study, setup = self.study(row), self.setup(row, CPU)
        epochs = max(1, build.method(study).epochs()[-1])
        key = (study.precision, row.student, study.data.model_dump_json(), study.experts.model_dump_json(), epochs)
        if key not in self._experts:
            self._experts[key] = [dict(self.expert(row, setup, number=number, epochs=epochs)) for number in range(2)]
        return MemorySource(self._experts[key])

    def expert(self, row: Row, setup: Setup, *, number: int, epochs: int) -> Iterator[tuple[int, Params]]:
        """Train one expert of a row with the data and the student of ``setup``."""
        recipe = build.expert_recipe(self.study(row))
        name = f"expert/{number}"
        return train_expert(setup.student, setup.pairs["train"], seed=0, name=name, epochs=epochs, recipe=recipe)
