"""A set that is learned for several students: each outer step is that of one, with its own experts and rates."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.config import components
from engine.distill import Distillation, outer_optimiser
from engine.experts.store import ExpertStore
from engine.io.files import read_json, write_json
from engine.io.paths import Paths
from engine.methods import Sources
from engine.recipes import Views
from engine.report.drawings import of_study
from engine.report.study import read_study
from engine.results.files import read_students
from engine.results.history import HISTORY
from engine.rng import named_generator
from engine.studies.distill import distill
from engine.studies.evaluate import score_file
from engine.studies.finished import show
from engine.studies.preflight.checks import check_study
from engine.synthetic.folder import DESCRIPTION, write_folder
from engine.synthetic.initialisation import initial_tensors
from engine.synthetic.set import load_set
from tests.methods.test_methods import RATES, seed_pairs, values
from tests.runs import recorded_rows
from tests.tiny import tiny_job
from tests.toys import tiny_sources, tiny_student

OTHER = "students=[{image: {encoder: convnet, width: 16, depth: 1, grid: 1, train: full, head: mlp}}]"


@pytest.fixture
def two(paths: Paths) -> list[Sources]:
    """Return the sources of two students, of which one trains its whole image encoder."""
    return [tiny_sources(tiny_student(paths, train=train)) for train in ("frozen", "full")]


def started(sources: list[Sources], *, further_texts: bool = False, tiles: int = 1, **options: Any) -> Distillation:
    method = components.bind("method", "lors", {"num_pairs": 6, "inner_steps": 2})
    own, *further = sources
    images, texts = initial_tensors(method.init, seed_pairs(own), 6, named_generator(1, "init"))
    state = method.initial_state(images, texts, own, named_generator(1, "state"))
    state.synthetic.add_students([int(further_texts)] * len(further), [texts + 1] * further_texts)
    state.synthetic.tiles = tiles
    optimiser = outer_optimiser(method.param_groups(state), RATES)
    return Distillation(method, state, optimiser, own, seed=1, ema=0.9, further=further, **options)


def test_a_step_is_that_of_a_run_for_its_student_alone(two: list[Sources]) -> None:
    run = started(two)
    seen = set()
    for step in range(6):
        before = deepcopy(run.state)
        number = int(torch.randint(2, (), generator=named_generator(1, f"student/{step}")))
        run.run(1)
        learned = run.state.synthetic.all_log_rates()
        moved = {name.rpartition(".")[0] for name, value in learned.items() if value.grad is not None}
        assert moved == {"log_rates" if number == 0 else "students.0"}
        alone = before if number == 0 else before.of_student(1)
        run.method.backward(alone, two[number], named_generator(1, f"outer/{step}"))
        for name in ("images", "texts"):
            assert torch.equal(getattr(alone.synthetic, name).grad, getattr(run.state.synthetic, name).grad)
        seen.add(number)
    assert seen == {0, 1}


def test_a_step_may_sum_all_students(two: list[Sources]) -> None:
    run = started(two, every_student=True)
    before = deepcopy(run.state)
    metrics = run.run(1)
    losses = []
    for number, sources in enumerate(two):
        found = run.method.backward(before.of_student(number), sources, named_generator(1, "outer/0"))
        losses.append(found["loss"])
    assert metrics["loss"] == pytest.approx(sum(losses))
    assert {"inner_lr/image", "inner_lr/1/image"} <= metrics.keys()
    for name, value in before.synthetic.named_parameters():
        assert torch.equal(value.grad, dict(run.state.synthetic.named_parameters())[name].grad), name


def test_one_whole_view_is_the_method_as_it_was_bitwise(two: list[Sources]) -> None:
    plain, viewed, cropped = (
        started(two[:1], **given) for given in ({}, {"views": Views(crop=(1, 1))}, {"views": Views()})
    )
    for run in (plain, viewed, cropped):
        run.run(3)
    assert all(torch.equal(value, values(viewed)[key]) for key, value in values(plain).items())
    assert not torch.equal(values(plain)["synthetic.images"], values(cropped)["synthetic.images"])


def test_the_gradients_of_several_views_are_averaged(two: list[Sources]) -> None:
    run = started(two[:1], views=Views(count=2, crop=(1, 1)))
    before = deepcopy(run.state)
    run.run(1)
    for name in ("outer/0", "outer/0/1"):
        run.method.backward(before, two[0], named_generator(1, name))
    for name, value in before.synthetic.named_parameters():
        assert torch.allclose(value.grad / 2, dict(run.state.synthetic.named_parameters())[name].grad), name


def test_pixels_stay_within_the_bound(two: list[Sources]) -> None:
    run, free = started(two[:1], bound=0.01), started(two[:1])
    start = run.synthetic.images.detach().clone()
    run.run(4)
    free.run(4)
    moved = (run.state.synthetic.images - start).abs().max()
    assert moved <= 0.01 + 1e-6 < (free.state.synthetic.images - start).abs().max()


def test_a_checkpoint_of_other_views_is_refused(two: list[Sources], tmp_path: Path) -> None:
    run = started(two[:1], views=Views(noise=0.1))
    run.run(1)
    run.save(tmp_path / "checkpoint")
    told = r"with shown pixels, whole, students drawn, found pixels, in \{"
    with pytest.raises(ValueError, match=told):
        started(two[:1]).load(tmp_path / "checkpoint")


def test_a_checkpoint_of_other_tiles_is_refused(two: list[Sources], tmp_path: Path) -> None:
    run = started(two[:1], tiles=2)
    run.save(tmp_path / "checkpoint")
    with pytest.raises(
        ValueError, match=r"with shown pixels as mosaics of 4 x 4, whole, .* found pixels as mosaics of 2"
    ):
        started(two[:1], tiles=4).load(tmp_path / "checkpoint")


def test_a_step_moves_one_tile_of_each_mosaic(two: list[Sources]) -> None:
    run = started(two[:1], tiles=2)
    before = run.state.synthetic.images.detach().clone()
    run.run(1)
    moved = (run.state.synthetic.images.detach() != before).reshape(6, 3, 2, 4, 2, 4).any(dim=5).any(dim=3).any(dim=1)
    assert moved.flatten(1).sum(dim=1).tolist() == [1] * 6
    run.run(20)
    assert (run.state.synthetic.images != before).float().mean() > 0.9


@pytest.mark.parametrize("tiles", [1, 2])
def test_ten_steps_equal_five_a_checkpoint_and_five_bitwise(two: list[Sources], tmp_path: Path, tiles: int) -> None:
    whole, first, second = (started(two, tiles=tiles) for _ in range(3))
    whole.run(10)
    first.run(5)
    first.save(tmp_path / "checkpoint")
    second.load(tmp_path / "checkpoint")
    second.run(5)
    assert "synthetic.students.0.image" in values(whole)
    assert all(torch.equal(value, values(second)[key]) for key, value in values(whole).items())


def test_a_set_keeps_the_rates_of_each_student(two: list[Sources], tmp_path: Path) -> None:
    run = started(two)
    run.run(6)
    run.synthetic.metadata |= {"student": {"image": {}, "text": {}}, "students": [{"image": {}}]}
    run.synthetic.save(tmp_path / "set")
    again = load_set(tmp_path / "set")
    for number in (0, 1):
        assert again.of_student(number).learning_rates() == run.synthetic.of_student(number).learning_rates()
    assert again.of_student(0).learning_rates() != again.of_student(1).learning_rates()
    assert again.of_student(1).images is again.images


def test_an_exported_folder_keeps_the_rates_of_each_student(two: list[Sources], tmp_path: Path) -> None:
    run = started(two)
    run.run(6)
    synthetic = run.synthetic
    synthetic.captions = tuple("abcdef")
    synthetic.metadata |= {"student": {"image": {}, "text": {}}, "students": [{"image": {}}]}
    write_folder(tmp_path, synthetic)
    again = load_set(tmp_path).of_student(1).learning_rates()
    assert again == pytest.approx(synthetic.of_student(1).learning_rates(), rel=1e-6)
    described = read_json(tmp_path / DESCRIPTION)
    for students, told in (
        ([], "the learning rates of 0 further students, expected those of 1"),
        ([{"image": 0.1}], r"students\.0\.text is null, expected a number above 0"),
        (3, "students is 3, expected a list of learning rates"),
    ):
        write_json(tmp_path / DESCRIPTION, described | {"students": students})
        with pytest.raises(ValueError, match=told):
            load_set(tmp_path)


def test_rates_of_students_that_do_not_fit_together_are_refused(two: list[Sources], tmp_path: Path) -> None:
    run = started(two)
    run.synthetic.save(tmp_path / "set")  # its metadata name no further student
    with pytest.raises(ValueError, match="the learning rates of 1 further students, expected those of 0"):
        load_set(tmp_path / "set")
    tensors = load_file(tmp_path / "set")
    tensors[f"students.{10**9}.image"] = tensors.pop("students.0.image")
    save_file(tensors, tmp_path / "gap", {"format_version": "1"})
    with pytest.raises(ValueError, match="expected the tensors"):
        load_set(tmp_path / "gap")
    run.synthetic.metadata |= {"student": {}, "students": 3}
    run.synthetic.save(tmp_path / "named")
    with pytest.raises(ValueError, match="students is 3 in its metadata, expected a list of objects"):
        load_set(tmp_path / "named")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([OTHER, "method={name: covmatch, num_pairs: 4}"], "students has the length 1, expected none: covmatch keeps"),
        (["students=[{image: {encoder: convnet, width: 8, depth: 2, grid: 1, train: full}}]"], "is the same student"),
    ],
)
def test_students_that_do_not_go_together_are_refused(words: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        check_study(tiny_job(tmp_path, *words))


def test_a_study_of_two_students_has_experts_rates_and_validations_of_both(
    ray_local: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = tiny_job(tmp_path, OTHER, "baselines.coresets=[]", "baselines.full_seeds=0", samples=1)
    own = distill(job)[0]
    stores = [one.expert_folder() for one in job.specification.of_each_student()]
    assert [len(ExpertStore(store).index()) for store in stores] == [2, 2]
    best = load_set(job.folder / "synthetic_set.safetensors")
    assert len(best.metadata["students"]) == len(best.students) == 1
    (history,) = (job.folder / "trials").glob(f"*/{HISTORY}")
    validation = read_json(history)["validations"][-1]
    each = [validation[f"val/mean_recall/{number}"] for number in (0, 1)]
    assert validation["val/mean_recall"] == pytest.approx(sum(each) / 2)
    # The other student is scored at its own rates, of which the study lets it choose no others.
    other = job.study.of_each_student()[1]
    rates = replace(job, study=other, specification=replace(job.specification, study=other))
    (row,) = score_file(rates, str(job.folder / "synthetic_set.safetensors"), local=True)
    assert row.pairs == own.pairs == 8
    (kept,) = read_students(job.folder)
    assert (kept.name, kept.mean, kept.learning_rate) == ("tiny, student 2", row.mean, row.learning_rate)
    assert kept.note.startswith("a student that the set was learned for: image convnet ")
    assert "width 16" in kept.note
    assert kept.note.endswith("only evaluate --students trains this student on all pairs")
    assert (kept.student, kept.unseen, kept.recovery) == ("student 2", False, None)
    said = capsys.readouterr().out
    assert f"tiny, student 2: mean recall {kept.mean['mean_recall']:.1f}, recovery not known\n" in said
    assert "evaluate --students FILE.yaml trains the student that the file describes on all pairs, too." in said
    (tags,) = [run.tags for run in recorded_rows(job) if run.name == "tiny, student 2, 8 pairs"]
    assert (tags["student"], tags["unseen"]) == ("student 2", "false")
    study = read_study(job.folder)
    drawn = {one.name: one for one in of_study(study)}
    assert ">student 2</text>" in drawn["transfer"].svg
    page = (job.folder / "report.html").read_text(encoding="utf-8")
    assert '<th scope="row">tiny, student 2</th>' in page
    assert "its recovery is not known" in page

    # A file that describes it takes its name, and adds what was not known, here and in MLflow.
    (tmp_path / "second.yaml").write_text(
        "student.image: {encoder: convnet, width: 16, depth: 1, grid: 1, train: full, head: mlp}", encoding="utf-8"
    )
    rows = score_file(job, None, students=[str(tmp_path / "second.yaml")], local=True)
    assert [one.name for one in rows[3:]] == [f"{name}, student 2" for name in ("tiny", "random", "all pairs")]
    now, *_ = read_students(job.folder)
    assert (now.name, now.mean, now.unseen) == (kept.name, kept.mean, False)
    assert now.recovery is not None
    assert "not known" not in (job.folder / "report.html").read_text(encoding="utf-8")
    (run,) = [run for run in recorded_rows(job) if run.name == "tiny, student 2, 8 pairs"]
    assert run.metrics["test/recovery"] == pytest.approx(now.recovery)
    capsys.readouterr()
    show(job)
    assert (
        f"recall {now.mean['mean_recall']:.1f}, {now.recovery:.1f} % of that of all pairs\n" in capsys.readouterr().out
    )


def test_a_study_of_mosaics_is_scored_alike_as_a_file_and_as_a_folder(ray_local: None, tmp_path: Path) -> None:
    words = ("method.tiles=2", "baselines.coresets=[]", "baselines.full_seeds=0")
    job = tiny_job(tmp_path, *words, samples=1)
    row = distill(job)[0]
    best = load_set(job.folder / "synthetic_set.safetensors")
    assert best.tiles == 2
    (again,) = score_file(job, str(job.folder / "synthetic_set.safetensors"), local=True)
    assert again.mean == row.mean
    (tmp_path / "exported").mkdir()
    write_folder(tmp_path / "exported", best)
    (exported,) = score_file(job, str(tmp_path / "exported"), local=True)
    assert exported.pairs == row.pairs
    assert exported.learning_rate == pytest.approx(row.learning_rate)


def test_a_side_that_tiles_do_not_divide_is_refused(tmp_path: Path) -> None:
    told = "method.tiles is 3, expected a divisor of data.image_px, which is 8"
    with pytest.raises(ValueError, match=told):
        check_study(tiny_job(tmp_path, "method.tiles=3"))
