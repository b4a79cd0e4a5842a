"""Claim: a set is scored faster than by training one student after another to its end, with the same choices.

python -m benchmarks.scoring [--space flickr8k_100] [--pairs 100 1000] [--photos 1000] [--epochs 100] [--repeat 1]

The reference trains a student at every candidate rate to its end and then one of each seed, with the plain loop of
torch's SGD, and scores each; ours is ``engine.evaluation.protocol.evaluate``. Both get random real pairs of the
``--space``, whose data, weights and caches are found as any study's are. Without one they get made pairs: features as
wide as EfficientNet-Lite0's and MiniLM's that share some directions and differ in noise, which students learn by heart
after they have found what is shared. Repetitions alternate, each with a set of its own. Both must choose the
same rates.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.common import Row, check_same, interleave, main, median
from benchmarks.cuda import DEVICE
from engine import build
from engine.config.load import load, resolve
from engine.data.prepared import PreparedPairs
from engine.evaluation.protocol import Protocol, Scores, evaluate, real_set
from engine.evaluation.student import TrainingSet, rate_factor, score
from engine.io.paths import default_paths
from engine.models.heads import build_head
from engine.models.two_tower import TwoTower, make_tower
from engine.rng import named_generator
from engine.tensors import MODALITIES, Modality, Params, sgd_groups

WIDTHS = {"image": 1280, "text": 384}
SHARED, NOISE, CAPTIONS, EMBED_DIM = 32, 3.0, 5, 512
SPACES = Path(__file__).parents[1] / "tune_spaces"
Problem = tuple[TwoTower, dict[str, PreparedPairs], Protocol]


@dataclass(frozen=True)
class Size:
    """Sets of as many pairs as each of ``pairs`` says, scored ``repeat`` times."""

    space: str = ""
    pairs: tuple[int, ...] = (100, 1000)
    photos: int = 1000
    epochs: int = 100
    repeat: int = 1


SMALLEST = Size(pairs=(40,), photos=60, epochs=4, repeat=1)


def made(photos: int) -> Problem:
    """Return heads on frozen features, pairs whose two sides share some directions, and the protocol of Flickr8k."""
    towers = [
        make_tower(
            modality,
            build_encoder=nn.Identity,
            build_head=lambda width=width: build_head("mlp", features=width, width=EMBED_DIM),  # type: ignore[misc]
            train="frozen",
            pretrained=True,
        )
        for modality, width in WIDTHS.items()
    ]
    random, pairs = np.random.default_rng(0), {}
    mixing = {modality: random.normal(size=(SHARED, width)) / 8 for modality, width in WIDTHS.items()}
    for split, number in (("train", 6 * photos), ("val", photos), ("test", photos)):
        latent, photo = random.normal(size=(number, SHARED)), np.repeat(np.arange(number), CAPTIONS)
        sides = {"image": latent, "text": latent[photo] + 0.3 * random.normal(size=(len(photo), SHARED))}
        noise = {name: NOISE * random.normal(size=(len(side), WIDTHS[name])) / 8 for name, side in sides.items()}
        found = {name: (side @ mixing[name] + noise[name]).astype(np.float32) for name, side in sides.items()}
        pairs[split] = PreparedPairs(found["image"], found["text"], photo)
    return TwoTower(*towers).to(DEVICE), pairs, Protocol(learning_rates=(0.001, 0.003, 0.01, 0.03, 0.1))


def of_space(name: str) -> Problem:
    """Return the student, the pairs and the protocol of a space."""
    study = resolve(load(SPACES / f"{name}.yaml"))
    setup = build.build_setup(study, default_paths(Path("runs").absolute()))
    return setup.student, dict(setup.pairs), build.protocol(study)


def plain_student(
    student: TwoTower, training: TrainingSet, protocol: Protocol, rates: dict[Modality, float], seed: int, name: str
) -> Params:
    """Train one student to its end with the plain loop of torch's SGD."""
    params = {n: v.requires_grad_() for n, v in student.init_params(named_generator(seed, f"eval/{name}/init")).items()}
    recipe, order = protocol.recipe, named_generator(seed, f"eval/{name}/order")
    optimiser = torch.optim.SGD(
        sgd_groups(params, rates), momentum=recipe.momentum, weight_decay=recipe.weight_decay, foreach=False
    )
    size = len(training.images)
    per_epoch = math.ceil(size / recipe.batch_size)
    for epoch in range(recipe.epochs):
        for number, rows in enumerate(torch.randperm(size, generator=order).split(recipe.batch_size)):
            factor = rate_factor(recipe.schedule, (epoch * per_epoch + number) / (recipe.epochs * per_epoch))
            for group, modality in zip(optimiser.param_groups, MODALITIES, strict=True):
                group["lr"] = factor * rates[modality]
            optimiser.zero_grad()
            student.loss(params, training.images[rows], training.texts[rows]).backward()
            optimiser.step()
    return {name: value.detach() for name, value in params.items()}


def one_after_another(
    student: TwoTower,
    training: TrainingSet,
    protocol: Protocol,
    *,
    seed: int,
    val: PreparedPairs,
    test: PreparedPairs,
) -> Scores:
    """Score a set with every student trained to its end."""

    def trained(rates: dict[Modality, float], name: str) -> Params:
        return plain_student(student, training, protocol, rates, seed, name)

    candidates = [dict.fromkeys(MODALITIES, rate) for rate in protocol.learning_rates]
    chosen = max(candidates, key=lambda rates: score(student, trained(rates, "choose"), val)["mean_recall"])
    students = [trained(chosen, str(index)) for index in range(protocol.seeds)]
    return Scores(
        seeds=[score(student, params, test) for params in students],
        val=[score(student, params, val) for params in students],
        learning_rates=chosen,
    )


def measure(size: Size) -> Iterator[Row]:
    """Yield one row for each number of pairs."""
    student, pairs, protocol = of_space(size.space) if size.space else made(size.photos)
    protocol = replace(protocol, recipe=replace(protocol.recipe, epochs=size.epochs))
    once = replace(protocol, recipe=replace(protocol.recipe, epochs=1), seeds=1)
    ways = {"reference": one_after_another, "ours": evaluate}
    for way in ways.values():  # what is loaded and compiled at first is not timed
        first = real_set(student, pairs["train"], torch.arange(8), student.device)
        way(student, first, once, seed=0, val=pairs["val"], test=pairs["val"])
    for number in size.pairs:
        spent = {name: [] for name in ways}
        for repetition in range(size.repeat):
            order = named_generator(repetition, "benchmark")
            chosen = torch.randperm(len(pairs["train"]), generator=order)[:number]
            training = real_set(student, pairs["train"], chosen, student.device)
            splits = {"val": pairs["val"], "test": pairs["test"]}
            calls = {n: partial(w, student, training, protocol, seed=repetition, **splits) for n, w in ways.items()}
            seconds, found = interleave(calls, 1)
            for name, one in seconds.items():
                spent[name].append(one)
            _compare(f"set {repetition} of {number}", found["ours"], found["reference"])
        both = median(spent["ours"]), median(spent["reference"])
        gpu = student.device.type != "cpu"  # whose seconds are those of the clock
        ours, theirs = (one.clock if gpu else one.processor for one in both)
        yield Row(
            f"scoring a set of {number} pairs ({len(protocol.learning_rates)} rates, {protocol.seeds} students)",
            "one student after another", f"{ours:.3g} s", f"{theirs:.3g} s", theirs / ours, ">= 5" if gpu else ">= 2",
            "every student that counts is trained to its end, and small batches are bound by calls",
        )  # fmt: skip


def _compare(which: str, ours: Scores, theirs: Scores) -> None:
    """Compare the chosen rates, and the students' val recalls in points of a hundred."""
    check_same(f"{which}: chosen rate", abs(ours.learning_rates["image"] - theirs.learning_rates["image"]), limit=0)
    away = max(abs(a["mean_recall"] - b["mean_recall"]) for a, b in zip(ours.val, theirs.val, strict=True))
    check_same(f"{which}: val mean recall, in points", away, limit=0.5)


if __name__ == "__main__":
    main(__doc__, Size, SMALLEST, measure)
