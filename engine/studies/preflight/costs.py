"""Costs of a study's steps: seconds of one of each kind, timed."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from PIL import Image

from engine import build
from engine.build import Setup
from engine.config.schema import Resolved
from engine.data.prepared import PreparedPairs
from engine.distill import NonFiniteLossError
from engine.evaluation.protocol import real_set
from engine.evaluation.retrieval import retrieval_metrics
from engine.evaluation.student import embed_split, train_student
from engine.experts.train import train_epoch
from engine.models.text import TextEncoder
from engine.rng import named_generator
from engine.specification import Specification
from engine.studies.preflight.dummy_inputs import captions, dummy_run, dummy_setup, with_method
from engine.studies.preflight.requirements import BATCH_SIZES, pairs_per_step
from engine.tensors import MODALITIES

LONGEST = 0.5
"""Seconds after which a step is not timed with more pairs, or more inner steps, but extrapolated."""


@dataclass(frozen=True)
class Costs:
    """Seconds of one CPU, or of the GPU, for one of each thing that a study repeats with one of its students.

    ``outer_step`` is a whole one, with all views; where students are summed, with all of them. The last three are
    zero where the caches are filled.
    """

    expert_batch: float = 0.0
    outer_step: float = 0.0
    student_step: float = 0.0
    image_embedded: float = 0.0
    caption_embedded: float = 0.0
    score_compared: float = 0.0
    photo_decoded: float = 0.0
    image_cached: float = 0.0
    caption_cached: float = 0.0


def time_prepared(specification: Specification) -> list[Costs]:
    """Time the steps of a study with each student on its own data, whose caches are filled."""
    return _time_steps(specification.study, specification.setups())


def time_dummy(specification: Specification) -> list[Costs]:
    """Time the steps of a study with each student, and filling its caches, on random data."""
    study, paths, setups, caches = specification.study, specification.paths, list[Setup](), list[dict[str, float]]()
    for one in study.of_each_student():
        encoder = build.build_text_encoder(one, paths)
        setups.append(dummy_setup(one, paths, encoder, build.default_device()))
        caches.append(_time_caches(one, setups[-1], encoder))
    return [replace(one, **cached) for one, cached in zip(_time_steps(study, setups), caches, strict=True)]


def _time_caches(study: Resolved, setup: Setup, encoder: TextEncoder) -> dict[str, float]:
    """Time reading a photo, and encoding an image and a caption where encoders are frozen; others have no cache."""
    pixels, photo, many = int(study.data.options["image_px"]), BytesIO(), captions(1024)
    Image.linear_gradient("L").resize((500, 375)).convert("RGB").save(photo, "JPEG")
    noise = torch.rand(16, 3, pixels, pixels, generator=named_generator(0, "dummy/images")).to(setup.device)

    def decode() -> None:
        Image.open(photo).convert("RGB").resize((pixels, pixels), Image.Resampling.BICUBIC)

    def fit() -> None:
        encoder.fit(many)
        encoder.embed(many[:1])  # some encoders fit only now

    found = {"photo_decoded": seconds(lambda _: decode, 1)}
    if study.student.image.train == "frozen":
        with torch.no_grad():
            image = seconds(lambda n: lambda: setup.student.image.prepare(noise[:n]), len(noise)) / len(noise)
        found["image_cached"] = image
    if study.student.text.train == "frozen":
        fitted = seconds(lambda _: fit, 1) / len(many)
        found["caption_cached"] = fitted + seconds(lambda n: lambda: encoder.embed(many[:n]), 64) / 64
    return found


def timed(measure: Callable[[Specification], list[Costs]], specification: Specification) -> list[Costs]:
    """Return what ``measure`` finds, in a process of its own where there is a GPU: its memory is then free again."""
    if not torch.cuda.is_available():
        return measure(specification)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, specification).result()


def _time_steps(study: Resolved, setups: Sequence[Setup]) -> list[Costs]:
    """Time one of each step with each student, on one thread or on the GPU of its setup."""
    each = study.of_each_student()
    if study.method.students == "summed":
        steps = [_outer_step(study, setups)] * len(each)
    else:
        steps = [_outer_step(one, [setup]) for one, setup in zip(each, setups, strict=True)]
    timings = zip(each, setups, steps, strict=True)
    return [replace(_time_student(one, setup), outer_step=step) for one, setup, step in timings]


def _outer_step(study: Resolved, setups: Sequence[Setup]) -> float:
    """Time an outer step under the students of all ``setups``: a whole one, or less of one that is slow.

    A share of the pairs is taken, of each batch too, and few inner steps, but enough for all pairs. Two numbers of each
    tell what does not grow with them: a frozen encoder sees every pair once, however many inner steps there are.
    """
    method = build.method(study)
    pairs, inner_steps = pairs_per_step(method), int(getattr(method, "inner_steps", 1))

    def step(number: int, steps: int) -> Callable[[], Any]:
        run = dummy_run(_smaller(study, number / pairs, steps), *setups)
        return lambda: run.run(1)

    few, enough = min(2, pairs), min(inner_steps, math.ceil(method.num_pairs / pairs))
    tried = [steps for steps, _ in grown(lambda steps: step_seconds(step(few, steps)), enough, inner_steps)]
    taken = [tried[0], tried[-1]] if tried[-1] < inner_steps else [inner_steps]
    return at(inner_steps, [(steps, seconds(partial(step, steps=steps), pairs)) for steps in taken])


def _smaller(study: Resolved, share: float, inner_steps: int) -> Resolved:
    """Return the study with a share of its pairs and of each batch, at least two, and other inner steps."""
    options = study.method.options
    sizes = {name: options[name] for name in BATCH_SIZES if options.get(name)} | {"num_pairs": study.method.num_pairs}
    changes = {name: max(min(2, size), math.ceil(share * size)) for name, size in sizes.items()}
    return with_method(study, **changes | ({"inner_steps": inner_steps} if "inner_steps" in options else {}))


def _time_student(study: Resolved, setup: Setup) -> Costs:
    """Time training and scoring of one student."""
    student, train, params = setup.student, setup.pairs["train"], setup.student.init_params(named_generator(0, "dummy"))
    expert, recipe, generator = build.expert_recipe(study), build.protocol(study).recipe, named_generator(0, "dummy")
    images, texts = train.images[:256], train.texts[:256]
    rows, columns = (torch.randn(n, study.student.embed_dim, generator=generator).to(setup.device) for n in (200, 1000))
    ranking = partial(retrieval_metrics, rows, columns, torch.arange(len(columns)) % len(rows))

    def expert_batch(number: int) -> Callable[[], Any]:
        some, one = np.arange(number) % len(train), replace(expert, batch_size=number)
        pairs = PreparedPairs(train.images[train.caption_image[some]], train.texts[some], np.arange(number))
        return lambda: train_epoch(student, params, pairs, recipe=one, generator=generator)

    def student_step(number: int) -> Callable[[], Any]:
        some, one = real_set(student, train, torch.arange(number), setup.device), replace(recipe, epochs=1)
        rates = dict.fromkeys(MODALITIES, 0.01)
        return lambda: list(train_student(student, params, some, learning_rates=rates, recipe=one, generator=generator))

    def embedded(images: np.ndarray, texts: np.ndarray) -> Callable[[], Any]:
        return lambda: embed_split(student, params, PreparedPairs(images, texts, np.arange(len(texts))))

    return Costs(
        expert_batch=seconds(expert_batch, expert.batch_size),
        student_step=seconds(student_step, min(recipe.batch_size, study.method.num_pairs)),
        image_embedded=seconds(lambda n: embedded(images[:n], texts[:1]), len(images)) / len(images),
        caption_embedded=seconds(lambda n: embedded(images[:1], texts[:n]), len(texts)) / len(texts),
        score_compared=seconds(lambda _: ranking, 1) / (len(rows) * len(columns)),
    )


def seconds(prepare: Callable[[int], Callable[[], Any]], number: int) -> float:
    """Return the seconds of the step that ``prepare(number)`` returns; a slow one is extrapolated from smaller ones."""
    first = min(2, number)
    step_seconds(prepare(first))  # imports and compilation are not timed
    return at(number, grown(lambda size: step_seconds(prepare(size)), first, number))


def grown(cost: Callable[[int], float], first: int, last: int) -> list[tuple[int, float]]:
    """Return growing sizes and their costs, from ``first`` to ``last``, or to where a cost is long and grows, too.

    It is long above ``LONGEST``, and has grown from 1.75 times the first on, so that most of it does not stay the same.
    """
    found = [(first, cost(first))]
    while (size := found[-1][0]) < last and ((spent := found[-1][1]) <= LONGEST or spent < 1.75 * found[0][1]):
        size = min(last, size * (4 if spent <= 4 * LONGEST else 2))
        found.append((size, cost(size)))
    return found


def at(size: int, found: Sequence[tuple[int, float]]) -> float:
    """Return the cost of a size: the last one found, or beyond it on the line through the first and the last."""
    (before, less), (there, most) = found[0], found[-1]
    return most if size == there else most + (most - less) * (size - there) / (there - before)


def step_seconds(step: Callable[[], Any]) -> float:
    """Return the seconds of a step on one thread; the shorter of two times unless it is very long.

    On a CPU these are seconds of the processor, so that other processes hardly count.
    """
    gpu, threads = torch.cuda.is_available(), torch.get_num_threads()
    clock = time.perf_counter if gpu else time.process_time

    def once() -> float:
        started = clock()
        with suppress(NonFiniteLossError):  # data are random
            step()
        if gpu:
            torch.cuda.synchronize()
        return clock() - started

    torch.set_num_threads(1)
    try:
        spent = once()
        return spent if spent > 4 * LONGEST else min(spent, once())
    finally:
        torch.set_num_threads(threads)
