"""The estimated bytes of an outer step and of a checkpoint are those of the real ones."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine import build
from engine.build import Setup
from engine.config.components import names
from engine.io.terminal import format_bytes
from engine.studies.job import Job
from engine.studies.preflight.dummy_inputs import dummy_run, dummy_setup, with_method
from engine.studies.preflight.memory import META, LiveBytes, ShapesOnly, peak_bytes, stepped, trial_bytes
from engine.studies.preflight.requirements import heaviest
from engine.unroll import GRADIENTS
from tests.tiny import tiny_job

SHORTCUT = "method={name: lors, num_pairs: 6, span: 1, max_start: 2, shortcut: 3}"
LEARNED = "optimiser.similarity_lr=0.1"
HERE = ("student.image.width=16", "search={}", LEARNED)
TRAINED, FROZEN = "student.image.train=full", "student.image.train=frozen"


def job_of(tmp_path: Path, *words: str) -> Job:
    return tiny_job(tmp_path / "runs", *HERE, *words)


def setup_of(job: Job) -> Setup:
    paths = job.specification.paths
    return dummy_setup(job.study, paths, build.build_text_encoder(job.study, paths), torch.device("cpu"))


def step_bytes(job: Job) -> int:
    found = trial_bytes(job, [setup_of(job)]).step
    assert found is not None
    return found


def real_bytes(job: Job) -> int:
    """Take one whole outer step, with numbers, and return the most bytes that live in it."""
    setup = setup_of(job)
    study = with_method(job.study, num_pairs=job.study.method.num_pairs)
    return peak_bytes(stepped(dummy_run(study, setup)), setup.student)


def unrolled(gradient: str) -> str:
    """Return a method of more inner steps than are taken to weigh them."""
    return f"method={{name: bi_trajectory, num_pairs: 24, inner_steps: 22, inner_batch: 8, gradient: {gradient}}}"


STEPS = [
    *((f"method={{name: {name}, num_pairs: 24}}", FROZEN) for name in names("method")),
    *((unrolled(gradient), FROZEN) for gradient in GRADIENTS),
    (SHORTCUT, FROZEN),
    ("method={name: bi_trajectory, num_pairs: 200}", FROZEN),  # more than the encoder takes at once
    ("method={name: lors, num_pairs: 24, similarity: {kind: full}, gradient: stored, loss: kl}", FROZEN),
    ("method={name: mdm, num_pairs: 24}", TRAINED),
    ("method={name: mdm, num_pairs: 24, images: pyramid}", FROZEN),
    ("method={name: bi_trajectory, num_pairs: 24, bound: 0.1, views: {count: 2, noise: 0.1}}", FROZEN),
    ("method={name: bi_trajectory, num_pairs: 24, inner_steps: 4, gradient: exact}", TRAINED),
    ("method={name: bi_trajectory, num_pairs: 24, inner_steps: 4, gradient: stored}", TRAINED),
]


@pytest.mark.parametrize(("method", "train"), STEPS)
def test_the_estimated_bytes_are_those_of_the_whole_step(method: str, train: str, tmp_path: Path) -> None:
    job = job_of(tmp_path, method, train)
    assert step_bytes(job) == pytest.approx(real_bytes(job), rel=0.03)


@pytest.mark.parametrize("words", [("optimiser.ema=0.9", "optimiser.clip=1.0"), ("optimiser.name=sgd",)], ids=str)
def test_the_optimiser_and_its_average_count(words: tuple[str, ...], tmp_path: Path) -> None:
    job = job_of(tmp_path, *words)
    assert step_bytes(job) == pytest.approx(real_bytes(job), rel=0.02)


@pytest.mark.parametrize(
    "words", [("optimiser.ema=0.9", "method.images=pyramid"), ("optimiser.name=sgd", "optimiser.momentum=0.5")], ids=str
)
def test_a_checkpoint_has_the_bytes_of_its_files(words: tuple[str, ...], tmp_path: Path) -> None:
    job = job_of(tmp_path, "method.num_pairs=200", *words)
    setup = setup_of(job)
    run = stepped(dummy_run(with_method(job.study, num_pairs=200), setup))
    run.save(tmp_path / "checkpoint")
    run.synthetic.save(tmp_path / "set")
    written = sum((tmp_path / name).stat().st_size for name in ("checkpoint", "set"))
    assert trial_bytes(job, [setup]).checkpoint == pytest.approx(written, rel=0.02)


def test_a_stored_step_grows_with_its_length_and_an_exact_one_hardly(tmp_path: Path) -> None:
    def bytes_of(gradient: str, steps: int) -> int:
        words = f"method={{name: bi_trajectory, num_pairs: 24, inner_steps: {steps}, gradient: {gradient}}}"
        return step_bytes(job_of(tmp_path, words))

    assert bytes_of("stored", 16) > 3 * bytes_of("stored", 4)
    assert bytes_of("exact", 16) < 1.5 * bytes_of("exact", 4)


def test_a_set_too_large_for_this_machine_is_measured_nonetheless(tmp_path: Path) -> None:
    job = job_of(tmp_path, "method={name: bi_trajectory, num_pairs: 2000}", "data.image_px=2048")
    assert step_bytes(job) > 5 * 2000 * 3 * 2048**2 * 4  # images, their gradient, Adam's moments, a step's copies


def test_of_a_search_the_largest_trial_counts(tmp_path: Path) -> None:
    searched = "search={method.inner_steps: {choice: [2, 9], default: 2}, method.num_pairs: {int: [4, 30], default: 8}}"
    words = [HERE[0], LEARNED, searched]
    one, several = (tiny_job(tmp_path, *words, samples=samples) for samples in (1, 2))
    study = heaviest(several.study)
    assert (study.method.options["inner_steps"], study.method.num_pairs) == (9, 30)
    assert step_bytes(several) > 2 * step_bytes(one)


def test_null_and_stored_are_the_largest_of_their_kind(tmp_path: Path) -> None:
    searched = (
        "search={method.inner_batch: {choice: [4, null], default: 4}, "
        "method.gradient: {choice: [exact, stored], default: exact}, "
        "method.inner_lr.image: {loguniform: [0.1, 1.0], default: 0.3}}"
    )
    study = heaviest(tiny_job(tmp_path, searched).study)
    assert (study.method.options["inner_batch"], study.method.options["gradient"]) == (None, "stored")
    assert study.method.options["inner_lr"] == {"image": 0.3, "text": 0.1}


def test_tensors_count_while_they_live_and_once_a_storage() -> None:
    with LiveBytes() as live:
        kept = torch.zeros(1000)
        view = kept.view(10, 100)
        assert (live.live, live.peak) == (4000, 4000)
        gone = kept + 1
        del gone
        assert (live.live, live.peak) == (4000, 8000)
        del kept
        assert live.live == 4000
        del view
        assert (live.live, live.peak) == (0, 8000)


def test_what_autograd_keeps_counts() -> None:
    weight = torch.ones(1000, requires_grad=True)
    with LiveBytes() as live:
        loss = weight.exp().exp().sum()
        assert live.live >= 3 * 4000
        del loss
        assert live.live == 4000


def test_tensors_without_numbers_meet_real_ones() -> None:
    phantom = torch.empty(5, 3, device=META)
    with ShapesOnly():
        chosen = phantom[torch.tensor([0, 2])] + torch.ones(3)
        assert (chosen.is_meta, chosen.shape) == (True, (2, 3))
        assert phantom.sum().item() == 1
        assert torch.tensor(4.0).item() == 4
        assert phantom.cpu().is_meta


def test_a_method_that_reads_numbers_has_unknown_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    job = job_of(tmp_path)

    def backward(self: object, state: torch.nn.Module, *others: object) -> dict[str, float]:
        images: Tensor = state.get_parameter("synthetic.images")
        return {"loss": float(images.detach().numpy().sum())}

    monkeypatch.setattr(type(build.method(job.study)), "backward", backward)
    found = trial_bytes(job, [setup_of(job)])
    assert found.step is None
    assert found.checkpoint is not None


@pytest.mark.parametrize(("size", "words"), [(0, "0.0 MiB"), (3 * 2**19, "1.5 MiB"), (5 * 2**29, "2.5 GiB")])
def test_bytes_are_spelled(size: int, words: str) -> None:
    assert format_bytes(size) == words
