"""What one of each step of a study costs: seconds of one processor, or of the GPU, timed on random numbers."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

from engine import build
from engine.data.pairs import Size
from engine.data.prepared import PreparedPairs
from engine.evaluation.retrieval import retrieval_metrics
from engine.evaluation.student import embed_split
from engine.methods import Method
from engine.models.text import TextEncoder
from engine.rng import named_generator
from engine.studies.preflight.dummy_inputs import DummyInputs, captions
from engine.tensors import Params

SIZES = ("inner_batch", "batch", "real_batch")
"""What methods call the number of pairs in one of their steps."""


@dataclass(frozen=True)
class Patience:
    """Seconds that a timed step may take, or fewer pairs of it are timed, and for which a short step is repeated."""

    longest: float
    enough: float


QUICK = Patience(longest=0.1, enough=0.0)
"""For a line in front of the work."""

THOROUGH = Patience(longest=1.5, enough=0.5)
"""For who asks for nothing but the estimate."""


@dataclass(frozen=True)
class Costs:
    """Seconds of one processor (or of the GPU) for one of each thing that a study does over and over.

    The first three are zero where the caches are there already.
    """

    expert_batch: float
    outer_step: float
    student_step: float
    image_embedded: float
    caption_embedded: float
    score_compared: float
    image_cached: float = 0.0
    caption_cached: float = 0.0
    captions_fitted: float = 0.0


def time_steps(dummy: DummyInputs, val: Size, patience: Patience) -> Costs:
    """Time one of each step of a study whose caches are there; ``val`` is the size of that split."""
    with _one_thread():
        return _Timing(dummy, patience).steps(val)


def with_caches(costs: Costs, dummy: DummyInputs, encoder: TextEncoder, patience: Patience) -> Costs:
    """Return ``costs`` with those of filling the caches; ``encoder`` is fitted on captions of nobody."""
    with _one_thread():
        timing = _Timing(dummy, patience)
        embedded, fitted = timing.caption_cached(encoder)
        image = timing.decoded() + timing.encoded()
    return replace(costs, image_cached=image, caption_cached=embedded, captions_fitted=fitted)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread inside of the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class _Timing:
    """The steps of a rehearsal, each timed with the same patience."""

    dummy: DummyInputs
    patience: Patience

    def steps(self, val: Size) -> Costs:
        """Time the steps with as many pairs as can be afforded."""
        dummy, study, params = self.dummy, self.dummy.study, self.dummy.params()
        slowness = self._slowness(params)
        number = self._affordable(study.experts.batch_size, slowness)
        some = dummy.pairs(number)
        trained = self.seconds(lambda: dummy.expert_batch(params, some)) / number
        own = min(study.protocol.batch_size, study.method.num_pairs)
        few = self._affordable(own, slowness)
        images, texts = dummy.inputs(some, few)
        image, caption = self.embedded(params, some)
        return Costs(
            expert_batch=trained * study.experts.batch_size,
            outer_step=self.outer_step(params, some, trained=trained, frozen=self.encoded()),
            student_step=self.seconds(lambda: dummy.student_step(params, images, texts)) / few * own,
            image_embedded=image,
            caption_embedded=caption,
            score_compared=self.ranked(val),
        )

    def seconds(self, step: Callable[[], Any]) -> float:
        """Return the seconds of processor that one ``step`` takes: the least of several, of a long one the first.

        Where there is a GPU, seconds of the clock. Other processes therefore hardly count on a CPU.
        """
        spent = [_once(step)]
        while sum(spent) < self.patience.enough or (len(spent) == 1 and spent[0] < self.patience.longest):
            spent.append(_once(step))
        return min(spent)

    def _slowness(self, params: Params) -> float:
        """Return the seconds of a pair in an expert's batch; what is imported and compiled first does not count."""
        least, small = self.dummy.pairs(2), self.dummy.pairs(4)
        self.dummy.expert_batch(params, least)
        return self.seconds(lambda: self.dummy.expert_batch(params, small)) / 4

    def _affordable(self, number: int, slowness: float) -> int:
        """Return how many of ``number`` pairs can be timed, of which each takes ``slowness`` seconds."""
        return max(2, min(number, int(self.patience.longest / max(slowness, 1e-9))))

    def outer_step(self, params: Params, pairs: PreparedPairs, *, trained: float, frozen: float) -> float:
        """Return the seconds of one outer step of the study's method.

        ``trained`` and ``frozen`` are the seconds of an image in a training step, and in the frozen encoder.
        """
        whole = build.method(self.dummy.study)
        method = lighter(whole, lambda one: work(one, trained=trained, frozen=frozen), self.patience)
        factor = work(whole, trained=trained, frozen=frozen) / work(method, trained=trained, frozen=frozen)
        sources = self.dummy.sources(method, params, pairs)
        state = self.dummy.state(method, sources)

        def step() -> None:
            state.zero_grad()
            method.backward(state, sources, named_generator(0, "rehearsal/outer"))

        return self.seconds(step) * factor

    def caption_cached(self, encoder: TextEncoder) -> tuple[float, float]:
        """Return the seconds to embed a caption and to fit on one, none where the text encoder is trained."""
        if self.dummy.study.student.text.train != "frozen":
            return 0.0, 0.0
        many = captions(1024)
        chunk = many[:32]

        def fit_and_embed() -> None:
            encoder.fit(many)
            encoder.embed(chunk)

        fit_and_embed()  # what is imported then is not what is timed
        embedded = self.seconds(lambda: encoder.embed(chunk))
        fitted = max(0.0, _once(fit_and_embed) - embedded)
        return embedded / len(chunk), fitted / len(many)

    @torch.no_grad()
    def encoded(self) -> float:
        """Return the seconds in which a frozen image encoder makes the features of one image."""
        dummy = self.dummy
        if dummy.study.student.image.train != "frozen":
            return 0.0
        shape = (4, 3, dummy.pixels, dummy.pixels)
        images = torch.rand(shape, generator=named_generator(0, "rehearsal/images")).to(dummy.device)
        return self.seconds(lambda: dummy.student.image.prepare(images)) / len(images)

    def decoded(self) -> float:
        """Return the seconds in which one photo of a usual size is decoded and made small."""
        pixels, file = self.dummy.pixels, BytesIO()
        waves = np.add.outer(np.arange(375), np.arange(500))[..., None] * [1, 2, 3]
        Image.fromarray((waves % 256).astype(np.uint8)).save(file, "JPEG")

        def decode() -> None:
            Image.open(BytesIO(file.getvalue())).convert("RGB").resize((pixels, pixels), Image.Resampling.BICUBIC)

        return self.seconds(decode)

    @torch.no_grad()
    def embedded(self, params: Params, pairs: PreparedPairs) -> tuple[float, float]:
        """Return the seconds in which a student embeds an image, and a caption."""
        student = self.dummy.student
        no_texts, no_images = replace(pairs, texts=pairs.texts[:1]), replace(pairs, images=pairs.images[:1])
        images = self.seconds(lambda: embed_split(student, params, no_texts))
        texts = self.seconds(lambda: embed_split(student, params, no_images))
        return images / len(pairs), texts / len(pairs)

    def ranked(self, val: Size) -> float:
        """Return the seconds of one score of an image with a caption, of those that make the recalls of a split."""
        images, width = min(val.images, 200), self.dummy.study.student.embed_dim
        captions, device, random = images * 5, self.dummy.device, named_generator(0, "rehearsal/rank")
        rows, columns = (torch.randn(n, width, generator=random).to(device) for n in (images, captions))
        caption_image = (torch.arange(captions) % images).to(device)
        return self.seconds(lambda: retrieval_metrics(rows, columns, caption_image)) / (images * captions)


def _once(step: Callable[[], Any]) -> float:
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    started = clock()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - started


def work(method: Method, *, trained: float, frozen: float) -> float:
    """Return about how many seconds an outer step takes: second derivatives of each inner pair, one pass of each used.

    Only the ratio of two such numbers is believed.
    """
    steps, size = int(getattr(method, "inner_steps", 1)), pairs_a_step(method)
    return 4 * steps * size * trained + 3 * min(method.num_pairs, steps * size) * frozen


def pairs_a_step(method: Method) -> int:
    """Return how many synthetic pairs make one of the method's steps."""
    given = next((int(getattr(method, name)) for name in SIZES if getattr(method, name, None)), method.num_pairs)
    return min(given, method.num_pairs)


def lighter(method: Method, seconds: Callable[[Method], float], patience: Patience) -> Method:
    """Return the method with fewer inner steps, and then with fewer pairs, until a step of it can be timed."""
    while seconds(method) > 2 * patience.longest:
        steps = getattr(method, "inner_steps", 1)
        if steps > 1:
            changes = {"inner_steps": steps // 2}
        elif method.num_pairs > 2:
            number = max(2, method.num_pairs // 2)
            sizes = {name: getattr(method, name, None) for name in SIZES}
            changes = {"num_pairs": number} | {name: min(size, number) for name, size in sizes.items() if size}
        else:
            break
        method = replace(cast(Any, method), **changes)
    return method
