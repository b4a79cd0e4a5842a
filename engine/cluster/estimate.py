"""How long a study would take here: a few of its steps timed on random numbers, times how many there are."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from io import BytesIO
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from engine import assemble, components
from engine.cluster.job import Job
from engine.data.pairs import PairDataset, Size
from engine.evaluation.retrieval import retrieval_metrics
from engine.evaluation.student import StudentRecipe, embed_split, train_student
from engine.experts.store import ExpertStore
from engine.experts.train import ExpertRecipe, train_epoch
from engine.experts.trajectory import ExpertId
from engine.methods import Method, Sources
from engine.models.prepared import PreparedPairs
from engine.models.text import TextEncoder, TrainableTextEncoder
from engine.models.two_tower import TwoTower
from engine.rng import stream
from engine.study import Request, Study
from engine.synthetic.initialisation import SeedPairs
from engine.tensors import Params

START = 25.0
"""Seconds in which Ray, its workers and MLflow come up on two cores, measured; a joined cluster takes less."""

WORDS = (
    "small",
    "brown",
    "dog",
    "runs",
    "over",
    "green",
    "grass",
    "towards",
    "two",
    "children",
    "red",
    "ball",
    "river",
)
LONGEST_TIMED = 1.5
"""Seconds that one timed step may take; a longer one is timed with fewer pairs and steps, and multiplied."""

ENOUGH = 0.5
"""Seconds for which a short step is repeated."""

_SIZES = ("inner_batch", "batch", "real_batch")


@dataclass(frozen=True)
class Parts:
    """Processor seconds of each part of a study, and of the longest chain of steps that wait for each other."""

    caches: float
    experts: float
    trials: float
    scoring: float
    chain: float

    def minutes(self, at_once: int) -> float:
        """Return the minutes on so many processors, or GPUs' shares, that have nothing else to do."""
        work = self.experts + self.trials + self.scoring
        return (START + self.caches / at_once + max(self.chain, work / at_once)) / 60


@dataclass(frozen=True)
class Costs:
    """Seconds of one processor (or of the GPU) for one of each thing that a study does over and over."""

    image_cached: float
    caption_cached: float
    captions_fitted: float
    expert_batch: float
    outer_step: float
    student_step: float
    image_embedded: float
    caption_embedded: float
    score_compared: float


def estimate(job: Job, student: TwoTower, encoder: TextEncoder) -> str:
    """Return the minutes that a study would take on this machine's processors, with its parts, as one line.

    Nothing is written and no photo is read. Steps are timed in this process on random numbers; what caches hold
    already, and trials that a search ends early, are not known and counted in full.

    Raises:
        ValueError: the data set's own list of pairs is not usable.
    """
    try:
        sizes = split_sizes(job)
    except FileNotFoundError as error:
        return f"not estimated: {str(error).rstrip('.')}"
    started = time.perf_counter()
    with _one_thread():
        costs = time_steps(job, student, encoder, sizes)
    parts, at_once = add_up(job, costs, sizes), _workers(job.study)
    shares = {name: getattr(parts, name) / at_once / 60 for name in ("caches", "experts", "trials", "scoring")}
    told = ", ".join(f"{name} {_about(value)}" for name, value in shares.items())
    gpus = f" and {torch.cuda.device_count()} GPUs" if torch.cuda.is_available() else ""
    return (
        f"about {_about(parts.minutes(at_once))} on {_cpus()} CPUs{gpus} "
        f"(timed here in {time.perf_counter() - started:.0f} s: {told}; less what is cached already)"
    )


def split_sizes(job: Job) -> dict[str, Size]:
    """Return how large the splits of the job's data are, without reading an image.

    Raises:
        FileNotFoundError: the data are not here.
        ValueError: they are not usable.
    """
    data = job.study.data
    module = import_module(components.find("data", data.name).__module__)
    sizes: dict[str, Size] = module.sizes(job.specification.places, **data.options)
    return sizes


def add_up(job: Job, costs: Costs, sizes: Mapping[str, Size]) -> Parts:
    """Return the seconds of each part: the costs times the counts of the study."""
    study = job.study
    given, baselines, budget = study.protocol, study.baselines, study.budget
    pairs = sizes["train"].pairs
    epoch = max(1, _each_epoch(study, sizes["train"]) // study.experts.batch_size) * costs.expert_batch
    val, test = (_scored(costs, sizes[split]) for split in ("val", "test"))
    moments = 1 if given.select_epoch == "last" else 10

    def training(number: int) -> float:
        return given.epochs * math.ceil(number / given.batch_size) * costs.student_step * _share(study, number)

    def result(number: int, *, learned: bool) -> float:
        """Choosing the rates, and then every seed."""
        chosen = len(given.rates) + learned
        judged = test if given.select_epoch == "best_on_test" else val
        watched = 0.0 if moments == 1 else moments * judged
        students = (chosen if chosen > 1 else 0) + given.seeds
        return students * (training(number) + watched + val) + given.seeds * test

    own = study.method.num_pairs
    validations = math.ceil(budget.outer_steps / budget.evaluate_every)
    watched = 0.0 if moments == 1 else moments * val
    trial = budget.outer_steps * costs.outer_step + validations * (training(own) + watched + val)
    full = baselines.full_epochs * (epoch + val) + test
    missing = _epochs_missing(job)
    coresets = sum(result(number, learned=False) for number in baselines.pairs or [own]) * len(baselines.coresets)
    return Parts(
        caches=sum(size.images for size in sizes.values()) * costs.image_cached
        + sum(size.pairs for size in sizes.values()) * costs.caption_cached
        + pairs * costs.captions_fitted,
        experts=missing * epoch,
        trials=job.samples * trial,
        scoring=result(own, learned=True) + coresets + baselines.full_seeds * full,
        chain=(_rounds(job.expert_count, study.resources.expert) * job.expert_epochs * epoch if missing else 0.0)
        + _rounds(job.samples, study.resources.trial) * trial
        + _rounds(1, study.resources.evaluation) * result(own, learned=True),
    )


def _each_epoch(study: Study, size: Size) -> int:
    """Return how many pairs an expert goes through in an epoch."""
    return size.images if study.experts.captions == "one" else size.pairs


def _share(study: Study, number: int) -> float:
    """Return how full a student's batches are, against those that are timed."""
    timed = min(study.protocol.batch_size, study.method.num_pairs)
    return number / math.ceil(number / study.protocol.batch_size) / timed


def _scored(costs: Costs, size: Size) -> float:
    """Return the seconds of embedding a split and ranking all of it."""
    embedded = size.images * costs.image_embedded + size.pairs * costs.caption_embedded
    return embedded + size.images * size.pairs * costs.score_compared


def _epochs_missing(job: Job) -> int:
    """Return the expert epochs that the store lacks."""
    index = ExpertStore(job.specification.expert_folder()).index()
    there = [min(max(index.get(expert, (0,))), job.expert_epochs) for expert in range(job.expert_count)]
    return sum(job.expert_epochs - last for last in there)


def _cpus() -> int:
    return len(os.sched_getaffinity(0))


def _workers(study: Study) -> int:
    """Return by what the work of a study is divided: the processors, or the trials that the GPUs have room for."""
    return _at_once(study.resources.trial) if torch.cuda.is_available() else _cpus()


def _at_once(request: Request) -> int:
    """Return how many holders of a request this machine has room for."""
    gpus = torch.cuda.device_count()
    fits = [_cpus() // request.cpu if request.cpu else _cpus()]
    fits += [gpus // request.gpu] if gpus and request.gpu else []
    return int(max(1, min(fits)))


def _rounds(number: int, request: Request) -> float:
    """Return how many of ``number`` tasks run one after the other, each shortened by its own threads."""
    threads = 1 if torch.cuda.is_available() else max(1, int(request.cpu))
    return math.ceil(number / _at_once(request)) / threads


# --- timing -----------------------------------------------------------------------------------------------------------


def time_steps(job: Job, student: TwoTower, encoder: TextEncoder, sizes: Mapping[str, Size]) -> Costs:
    """Time one of each step on random pairs of the study's shapes."""
    study, device = job.study, assemble.default_device()
    student.to(device)
    pixels = int(study.data.options["image_px"])
    raw, text, fitted = _cached_texts(study, encoder)
    params = student.fresh(stream(0, "estimate"))
    least = _random_pairs(study, student, raw, pixels, images=2, device=device)
    _expert_batch(study, student, params, least)  # what is imported and compiled then is not what is timed
    small = _random_pairs(study, student, raw, pixels, images=4, device=device)
    slowness = _seconds(lambda: _expert_batch(study, student, params, small)) / 4
    number = _affordable(study.experts.batch_size, slowness)
    some = _random_pairs(study, student, raw, pixels, images=number, device=device)
    batch = _seconds(lambda: _expert_batch(study, student, params, some)) / number * study.experts.batch_size
    own = min(study.protocol.batch_size, study.method.num_pairs)
    few = _affordable(own, slowness)
    images, texts = _inputs(student, some, few, device)
    image, caption = _embedding_seconds(student, params, some)
    frozen = _encoding_seconds(study, student, pixels, device)
    return Costs(
        image_cached=_decoding_seconds(pixels) + frozen,
        caption_cached=text,
        captions_fitted=fitted,
        expert_batch=batch,
        outer_step=_outer_seconds(
            study, student, some, params, pixels, trained=batch / study.experts.batch_size, frozen=frozen
        ),
        student_step=_seconds(lambda: _student_step(study, student, params, images, texts)) / few * own,
        image_embedded=image,
        caption_embedded=caption,
        score_compared=_ranking_seconds(study.student.embed_dim, sizes["val"], device),
    )


def _affordable(number: int, slowness: float) -> int:
    """Return how many of ``number`` pairs can be timed, of which each takes ``slowness`` seconds."""
    return max(2, min(number, int(LONGEST_TIMED / max(slowness, 1e-9))))


def _seconds(step: Callable[[], Any]) -> float:
    """Return the seconds of processor that one ``step`` takes: the least of several, of a long one the first.

    Where there is a GPU, seconds of the clock. Other processes therefore hardly count on a CPU.
    """
    spent = [_once(step)]
    while sum(spent) < ENOUGH or (len(spent) == 1 and spent[0] < LONGEST_TIMED):
        spent.append(_once(step))
    return min(spent)


def _once(step: Callable[[], Any]) -> float:
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    started = clock()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - started


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread inside of the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _captions(number: int) -> list[str]:
    """Return captions of a usual length, all different."""
    random = np.random.default_rng(0)
    return [f"{' '.join(random.permutation(WORDS)[:11])} {index}" for index in range(number)]


def _cached_texts(study: Study, encoder: TextEncoder) -> tuple[np.ndarray, float, float]:
    """Return rows of what the text tower takes, and the seconds to embed a caption and to fit on one."""
    captions = _captions(1024)
    if study.student.text.train != "frozen":
        return cast(TrainableTextEncoder, encoder).tokens(captions[:256])[:, :24], 0.0, 0.0
    chunk = captions[:32]

    def fit_and_embed() -> None:
        encoder.fit(captions)
        encoder.embed(chunk)

    fit_and_embed()  # what is imported then is not what is timed
    embedded = _seconds(lambda: encoder.embed(chunk))
    fitted = max(0.0, _once(fit_and_embed) - embedded)
    rows = torch.randn(256, encoder.dim, generator=stream(0, "estimate/texts"))
    return normalize(rows, dim=1).numpy(), embedded / len(chunk), fitted / len(captions)


def _random_pairs(
    study: Study, student: TwoTower, texts: np.ndarray, pixels: int, *, images: int, device: torch.device
) -> PreparedPairs:
    """Return random pairs, one caption an image, as the student's trained parts take them."""
    random = np.random.default_rng(0)
    rows = random.integers(0, 256, (images, 3, pixels, pixels), dtype=np.uint8)
    if study.student.image.train == "frozen":
        with torch.no_grad():
            width = student.image.prepare(torch.zeros(1, 3, pixels, pixels, device=device)).shape[1]
        rows = random.normal(size=(images, width)).astype(np.float32)
    return PreparedPairs(rows, texts[np.arange(images) % len(texts)], np.arange(images))


def _expert_batch(study: Study, student: TwoTower, params: Params, pairs: PreparedPairs) -> Params:
    """Train an expert on one batch that holds all ``pairs``."""
    recipe: ExpertRecipe = replace(assemble.expert_recipe(study), batch_size=len(pairs))
    return train_epoch(student, params, pairs, recipe=recipe, generator=stream(0, "estimate/expert"))


def _inputs(student: TwoTower, pairs: PreparedPairs, number: int, device: torch.device) -> tuple[Tensor, Tensor]:
    rows = torch.arange(number) % len(pairs)
    return pairs.image_rows(rows, device), student.text.prepare(pairs.text_rows(rows, device))


def _student_step(study: Study, student: TwoTower, params: Params, images: Tensor, texts: Tensor) -> None:
    recipe = StudentRecipe(epochs=1, batch_size=len(images), momentum=study.protocol.momentum)
    rates = {"image": 0.01, "text": 0.01}
    list(train_student(student, params, images, texts.detach(), rates=rates, recipe=recipe,
                       generator=stream(0, "estimate/student")))  # fmt: skip


def _encoding_seconds(study: Study, student: TwoTower, pixels: int, device: torch.device) -> float:
    """Return the seconds in which a frozen image encoder makes the features of one image."""
    if study.student.image.train != "frozen":
        return 0.0
    images = torch.rand(4, 3, pixels, pixels, generator=stream(0, "estimate/images")).to(device)
    with torch.no_grad():
        return _seconds(lambda: student.image.prepare(images)) / len(images)


def _decoding_seconds(pixels: int) -> float:
    """Return the seconds in which one photo of a usual size is decoded and made small."""
    waves = np.add.outer(np.arange(375), np.arange(500))[..., None] * [1, 2, 3]
    file = BytesIO()
    Image.fromarray((waves % 256).astype(np.uint8)).save(file, "JPEG")

    def decode() -> None:
        Image.open(BytesIO(file.getvalue())).convert("RGB").resize((pixels, pixels), Image.Resampling.BICUBIC)

    return _seconds(decode)


@torch.no_grad()
def _embedding_seconds(student: TwoTower, params: Params, pairs: PreparedPairs) -> tuple[float, float]:
    """Return the seconds in which a student embeds an image, and a caption."""
    no_texts = replace(pairs, texts=pairs.texts[:1])
    no_images = replace(pairs, images=pairs.images[:1])
    images = _seconds(lambda: embed_split(student, params, no_texts))
    texts = _seconds(lambda: embed_split(student, params, no_images))
    return images / len(pairs), texts / len(pairs)


def _ranking_seconds(width: int, size: Size, device: torch.device) -> float:
    """Return the seconds of one score of an image with a caption, of those that make the recalls of a split."""
    images, captions = min(size.images, 200), min(size.images, 200) * 5
    embedded = [torch.randn(n, width, generator=stream(0, "estimate/rank")).to(device) for n in (images, captions)]
    caption_image = (torch.arange(captions) % images).to(device)
    return _seconds(lambda: retrieval_metrics(embedded[0], embedded[1], caption_image)) / (images * captions)


@dataclass(frozen=True, eq=False)
class MovingExpert:
    """An expert that moves by a thousandth of its parameters in each epoch."""

    start: Params
    epochs: tuple[int, ...]

    def index(self) -> dict[ExpertId, tuple[int, ...]]:
        """Return the epochs of the one expert."""
        return {0: self.epochs}

    def load(self, expert: ExpertId, epoch: int) -> Params:
        """Return the parameters of an epoch."""
        return {name: value * (1 + 0.001 * epoch) for name, value in self.start.items()}


def _outer_seconds(
    study: Study, student: TwoTower, pairs: PreparedPairs, params: Params, pixels: int, *, trained: float, frozen: float
) -> float:
    """Return the seconds of one outer step of the study's method, on random pairs and one random expert.

    ``trained`` and ``frozen`` are the seconds of an image in a training step, and in the frozen encoder.
    """
    whole = assemble.method(study)
    method = _lighter(whole, lambda one: _work(one, trained=trained, frozen=frozen))
    factor = _work(whole, trained=trained, frozen=frozen) / _work(method, trained=trained, frozen=frozen)
    sources = Sources(student, MovingExpert(params, tuple(method.epochs())), pairs)
    state = method.initial_state(_seeds(student, pairs, pixels, method.num_pairs), sources, stream(0, "init"))
    state = state.to(next(iter(params.values())).device)

    def step() -> None:
        state.zero_grad()
        method.backward(state, sources, stream(0, "estimate/outer"))

    return _seconds(step) * factor


def _work(method: Method, *, trained: float, frozen: float) -> float:
    """Return about how many seconds an outer step takes: second derivatives of each inner pair, one pass of each used.

    Only the ratio of two such numbers is believed.
    """
    steps, size = int(getattr(method, "inner_steps", 1)), _pairs_a_step(method)
    return 4 * steps * size * trained + 3 * min(method.num_pairs, steps * size) * frozen


def _pairs_a_step(method: Method) -> int:
    given = next((int(getattr(method, name)) for name in _SIZES if getattr(method, name, None)), method.num_pairs)
    return min(given, method.num_pairs)


def _lighter(method: Method, work: Callable[[Method], float]) -> Method:
    """Return the method with fewer inner steps, and then with fewer pairs, until a step of it can be timed."""
    while work(method) > 2 * LONGEST_TIMED:
        steps = getattr(method, "inner_steps", 1)
        if steps > 1:
            changes = {"inner_steps": steps // 2}
        elif method.num_pairs > 2:
            number = method.num_pairs // 2
            sizes = {name: getattr(method, name, None) for name in _SIZES}
            changes = {"num_pairs": number} | {name: min(size, number) for name, size in sizes.items() if size}
        else:
            break
        method = replace(cast(Any, method), **changes)
    return method


def _seeds(student: TwoTower, pairs: PreparedPairs, pixels: int, number: int) -> SeedPairs:
    """Return random real pairs that a synthetic set can start from."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (number, 3, pixels, pixels), dtype=np.uint8)
    names = tuple(map(str, range(number)))
    device = next(student.image.trained.parameters()).device

    @torch.no_grad()
    def prepare(rows: Tensor) -> Tensor:
        return student.text.prepare(rows.to(device)).cpu()

    return SeedPairs(
        PairDataset(images, names, names, np.arange(number)),
        pairs.texts[np.arange(number) % len(pairs.texts)],
        lambda: torch.randn(number, 8, generator=stream(0, "estimate/features")),
        prepare,
    )


def _about(minutes: float) -> str:
    """Return minutes as people say them."""
    if minutes < 120:
        return f"{minutes:.0f} min" if minutes >= 10 else f"{minutes:.1f} min"
    return f"{minutes / 60:.0f} h" if minutes < 4 * 24 * 60 else f"{minutes / 60 / 24:.0f} days"
