"""A set with texts for several text encoders: learned, kept, exported, and taken by students of each encoder."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from engine.io.files import read_json, write_json
from engine.io.paths import Paths
from engine.methods import Sources
from engine.rewording import reworded
from engine.rng import named_generator
from engine.studies.distill import distill
from engine.studies.evaluate import score_file
from engine.synthetic.folder import DESCRIPTION, TENSORS, write_folder
from engine.synthetic.set import SyntheticSet, load_set
from engine.text_spaces import texts_of_students
from tests.methods.test_methods import values
from tests.test_students import started
from tests.tiny import tiny_job
from tests.toys import tiny_sources, tiny_student

OTHER = "students=[{text: {encoder: tfidf, dim: 8}}, {image: {encoder: convnet, width: 4, depth: 1, grid: 1}}]"
THIRD = "student={image: {encoder: convnet, width: 6, depth: 1, grid: 1}, text: {encoder: tfidf, dim: 8}}"


def a_set(images: int = 3) -> SyntheticSet:
    """Return a set whose second further student reads texts of its own."""
    made = SyntheticSet(torch.rand(images, 3, 4, 4), torch.rand(images, 5), {"image": 0.1, "text": 0.2})
    made.metadata |= {"student": {"image": {}, "text": {}}, "students": [{"image": {}}, {"text": {}}]}
    made.captions = tuple(f"caption {number}" for number in range(images))
    return made.add_students([0, 1], [torch.rand(images, 7)])


@pytest.fixture
def two(paths: Paths) -> list[Sources]:
    """Return the sources of two students, which read texts of their own in tests, although of one encoder."""
    return [tiny_sources(tiny_student(paths)) for _ in range(2)]


def test_a_step_of_a_student_moves_the_texts_that_it_reads(two: list[Sources]) -> None:
    run, seen = started(two, further_texts=True), set()
    learned = run.state.synthetic
    for step in range(6):
        before = deepcopy(run.state)
        number = int(torch.randint(2, (), generator=named_generator(1, f"student/{step}")))
        run.run(1)
        read, other = (learned.spaces[0], learned.texts) if number else (learned.texts, learned.spaces[0])
        assert other.grad is None
        if number:
            before.synthetic.text_of, before.synthetic.texts = (0,), before.synthetic.spaces[0]
        run.method.backward(before.of_student(number), two[number], named_generator(1, f"outer/{step}"))
        assert torch.equal(before.synthetic.texts.grad, read.grad)
        seen.add(number)
    assert seen == {0, 1}
    assert "synthetic.spaces.0" in values(run)


@pytest.mark.parametrize("tar", [False, True])
def test_a_set_keeps_all_texts_in_a_file_and_in_a_folder(tmp_path: Path, tar: bool) -> None:
    made = a_set()
    made.save(tmp_path / "set")
    (tmp_path / "folder").mkdir()
    write_folder(tmp_path / "folder", made, tar=tar)
    for read in (load_set(tmp_path / "set"), load_set(tmp_path / "folder")):
        assert read.text_of == (0, 1)
        assert torch.equal(read.spaces[0], made.spaces[0])
        assert torch.equal(read.of_student(2).texts, made.spaces[0])
        assert torch.equal(read.of_student(1).texts, made.texts)
        assert read.size_bytes() == made.size_bytes()


def test_a_set_whose_texts_do_not_belong_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a synthetic set of 3 pairs has 2 texts for another text encoder"):
        SyntheticSet(torch.rand(3, 3, 4, 4), torch.rand(3, 5), {"image": 1, "text": 1}).add_students(
            [1], [torch.rand(2, 7)]
        )
    a_set().save(tmp_path / "set")
    with safe_open(tmp_path / "set", "pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for given, told in (
        ("[0, 2]", r"text_of is \[0, 2\], expected every number from 1 to 1, or 0"),
        ("[0, true]", r"text_of is \[0, True\], expected a list of whole numbers"),
        ("{}", "expected every number from 1 to 1"),
    ):
        save_file(tensors, tmp_path / "other", {**header, "text_of": given})
        with pytest.raises(ValueError, match=told):
            load_set(tmp_path / "other")
    (tmp_path / "folder").mkdir()
    write_folder(tmp_path / "folder", a_set())
    described = read_json(tmp_path / "folder" / DESCRIPTION)
    write_json(tmp_path / "folder" / DESCRIPTION, {**described, "text_of": [1]})
    with pytest.raises(ValueError, match=r"text_of is \[1\], expected a number for each of students"):
        load_set(tmp_path / "folder")
    save_file({"text_embedding": torch.rand(3, 5), "other": torch.rand(3)}, tmp_path / "folder" / TENSORS)
    with pytest.raises(ValueError, match=r"expected text_embedding and perhaps similarity, found \['other'"):
        load_set(tmp_path / "folder")


@pytest.mark.slow
def test_students_of_each_text_encoder_take_the_texts_that_were_learned_for_it(ray_local: None, tmp_path: Path) -> None:
    job = tiny_job(
        tmp_path, OTHER, "baselines.coresets=[]", "baselines.full_seeds=0", "method.students=summed", samples=1
    )
    distill(job)
    best = load_set(job.folder / "synthetic_set.safetensors")
    assert (best.text_of, best.texts.shape[1], best.spaces[0].shape[1]) == ((1, 0), 16, 8)
    setups = job.specification.setups("cpu")
    _, (start,) = texts_of_students(best.texts, setups[0], setups[1:])
    assert not torch.equal(best.spaces[0], start)

    unseen = tiny_job(tmp_path, THIRD)
    taken = reworded(unseen.study, unseen.specification.setup("cpu"), unseen.specification.paths, best)
    assert torch.equal(taken.texts, best.spaces[0])
    assert "reworded" not in taken.metadata
    (row,) = score_file(unseen, str(job.folder / "synthetic_set.safetensors"), local=True)
    assert "mapped" not in row.note
    known = replace(job, study=job.study.of_each_student()[1])
    known = replace(known, specification=replace(job.specification, study=known.study))
    (row,) = score_file(known, str(job.folder / "synthetic_set.safetensors"), local=True)
    assert "mapped" not in row.note
