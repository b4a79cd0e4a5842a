"""Costs of a study's steps: seconds of one of each kind, timed."""

import math
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from multiprocessing import get_context
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

from engine import build
from engine.build import Setup
from engine.config.schema import Resolved
from engine.data.prepared import PreparedPairs
from engine.evaluation.protocol import real_set
from engine.evaluation.retrieval import retrieval_metrics
from engine.evaluation.student import embed_split, train_student
from engine.experts.train import train_epoch
from engine.methods import Metrics, Sources, State
from engine.rng import named_generator
from engine.specification import Specification
from engine.studies.preflight.dummy_inputs import captions, dummy_run, dummy_setup, with_method
from engine.studies.preflight.requirements import BATCH_SIZES, pairs_per_step
from engine.tensors import MODALITIES

LONGEST = 0.25
"""Seconds after which a step is not timed with more pairs, but extrapolated in proportion to them."""


@dataclass(frozen=True)
class Costs:
    """Seconds of one CPU, or of the GPU, for one of each thing that a study repeats.

    ``outer_step`` is the method's gradient from one view of the images, ``showing`` everything else in an outer step:
    rendering a pyramid, cropping all views, the way back, and the optimiser. The last two are zero where the caches are
    filled.
    """

    expert_batch: float = 0.0
    outer_step: float = 0.0
    showing: float = 0.0
    student_step: float = 0.0
    image_embedded: float = 0.0
    caption_embedded: float = 0.0
    score_compared: float = 0.0
    image_cached: float = 0.0
    caption_cached: float = 0.0


@dataclass(frozen=True)
class Sum:
    """A method whose loss is the sum of all that is learned, which takes no time."""

    def backward(self, state: State, sources: Sources, generator: torch.Generator) -> Metrics:
        """Add a gradient of one to every number."""
        torch.stack([value.sum() for value in state.parameters() if value.requires_grad]).sum().backward()
        return {"loss": 0.0}


def time_prepared(specification: Specification) -> Costs:
    """Time the steps of a study on its own data, whose caches are filled."""
    return _time_steps(specification.study, specification.setup())


def time_dummy(specification: Specification) -> Costs:
    """Time the steps of a study, and filling its caches, on random data."""
    study, paths, device = specification.study, specification.paths, build.default_device()
    encoder = build.build_text_encoder(study, paths)
    setup = dummy_setup(study, paths, encoder, device)
    steps = _time_steps(study, setup)
    pixels, photo, many = int(study.data.options["image_px"]), BytesIO(), captions(1024)
    Image.linear_gradient("L").resize((500, 375)).convert("RGB").save(photo, "JPEG")
    noise = torch.rand(16, 3, pixels, pixels, generator=named_generator(0, "dummy/images")).to(device)

    def decode() -> None:
        Image.open(photo).convert("RGB").resize((pixels, pixels), Image.Resampling.BICUBIC)

    def fit() -> None:
        encoder.fit(many)
        encoder.embed(many[:1])  # some encoders fit only now

    image, caption = seconds(lambda _: decode, 1), 0.0  # an encoder that is trained has no cache
    if study.student.image.train == "frozen":
        with torch.no_grad():
            image += seconds(lambda n: lambda: setup.student.image.prepare(noise[:n]), len(noise)) / len(noise)
    if study.student.text.train == "frozen":
        caption = seconds(lambda _: fit, 1) / len(many) + seconds(lambda n: lambda: encoder.embed(many[:n]), 64) / 64
    return replace(steps, image_cached=image, caption_cached=caption)


def timed(measure: Callable[[Specification], Costs], specification: Specification) -> Costs:
    """Return what ``measure`` finds, in a process of its own where there is a GPU: its memory is then free again."""
    if not torch.cuda.is_available():
        return measure(specification)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, specification).result()


def _time_steps(study: Resolved, setup: Setup) -> Costs:
    """Time one of each step on one thread, or on the GPU of ``setup``."""
    student, train, params = setup.student, setup.pairs["train"], setup.student.init_params(named_generator(0, "dummy"))
    expert, recipe, generator = build.expert_recipe(study), build.protocol(study).recipe, named_generator(0, "dummy")
    images, texts = train.images[:256], train.texts[:256]
    rows, columns = (torch.randn(n, study.student.embed_dim, generator=generator).to(setup.device) for n in (200, 1000))
    ranking = partial(retrieval_metrics, rows, columns, torch.arange(len(columns)) % len(rows))

    def expert_batch(number: int) -> Callable[[], Any]:
        some, one = np.arange(number) % len(train), replace(expert, batch_size=number)
        pairs = PreparedPairs(train.images[train.caption_image[some]], train.texts[some], np.arange(number))
        return lambda: train_epoch(student, params, pairs, recipe=one, generator=generator)

    def outer_step(number: int) -> Callable[[], Any]:
        run = dummy_run(_smaller(study, number), setup)
        return lambda: run.method.backward(run.state, run.sources, generator)

    def showing(number: int) -> Callable[[], Any]:
        run = dummy_run(with_method(study, num_pairs=number), setup)
        run.method = cast(Any, Sum())
        return lambda: run.run(1)

    def student_step(number: int) -> Callable[[], Any]:
        some, one = real_set(student, train, torch.arange(number), setup.device), replace(recipe, epochs=1)
        rates = dict.fromkeys(MODALITIES, 0.01)
        return lambda: list(train_student(student, params, some, learning_rates=rates, recipe=one, generator=generator))

    def embedded(images: np.ndarray, texts: np.ndarray) -> Callable[[], Any]:
        return lambda: embed_split(student, params, PreparedPairs(images, texts, np.arange(len(texts))))

    return Costs(
        expert_batch=seconds(expert_batch, expert.batch_size),
        outer_step=seconds(outer_step, _pairs_per_outer_step(study)),
        showing=seconds(showing, study.method.num_pairs),
        student_step=seconds(student_step, min(recipe.batch_size, study.method.num_pairs)),
        image_embedded=seconds(lambda n: embedded(images[:n], texts[:1]), len(images)) / len(images),
        caption_embedded=seconds(lambda n: embedded(images[:1], texts[:n]), len(texts)) / len(texts),
        score_compared=seconds(lambda _: ranking, 1) / (len(rows) * len(columns)),
    )


def seconds(prepare: Callable[[int], Callable[[], Any]], number: int) -> float:
    """Return the seconds of the step that ``prepare(number)`` returns, on one thread.

    Sizes grow from 2 until a step takes ``LONGEST``, from which the rest is extrapolated. On a CPU these are seconds of
    the processor, so that other processes hardly count.
    """
    gpu, threads, size = torch.cuda.is_available(), torch.get_num_threads(), min(2, number)
    clock = time.perf_counter if gpu else time.process_time

    def once(step: Callable[[], Any]) -> float:
        started = clock()
        step()
        if gpu:
            torch.cuda.synchronize()
        return clock() - started

    torch.set_num_threads(1)
    try:
        once(prepare(size))  # imports and compilation are not timed
        while True:
            step = prepare(size)
            spent = once(step)
            if size == number or spent > LONGEST:
                return (spent if spent > LONGEST else min(spent, once(step))) * number / size
            size = min(number, 4 * size)
    finally:
        torch.set_num_threads(threads)


def _pairs_per_outer_step(study: Resolved) -> int:
    """Return the number of synthetic pairs in all inner steps of an outer step."""
    method = build.method(study)
    return pairs_per_step(method) * int(getattr(method, "inner_steps", 1))


def _smaller(study: Resolved, pairs: int) -> Resolved:
    """Return the study with at most ``pairs`` pairs in an outer step: smaller batches, then fewer inner steps."""
    if pairs == _pairs_per_outer_step(study):
        return with_method(study, num_pairs=study.method.num_pairs)
    options, number = study.method.options, min(study.method.num_pairs, pairs)
    changes = {name: min(options[name], pairs) for name in BATCH_SIZES if options.get(name)}
    if "inner_steps" in options:
        changes["inner_steps"] = math.ceil(pairs / min(pairs, pairs_per_step(build.method(study))))
    return with_method(study, num_pairs=number, **changes)
