"""Sets from files: those that fit the student, and those whose texts nobody can read again."""

import shutil
from pathlib import Path

import pytest

from engine.config.comparison import given_students
from engine.config.errors import ConfigError
from engine.report.recall import transfers
from engine.report.study import read_study
from engine.results.history import BEST_SET
from engine.studies.evaluate import fitting_set, score_file
from engine.synthetic.set import load_set
from tests.finished import Finished
from tests.tiny import tiny_job


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ({"encoder": "no_such_encoder"}, "no_such_encoder"),
        ({"encoder": 3}, r"student\.text\.encoder"),
        ({"head": "mlp"}, "encoder"),
        ("tfidf", r"student\.text"),
    ],
)
def test_a_set_of_an_unknown_text_encoder_is_named(
    text: object, sentence: str, finished: Finished, tmp_path: Path
) -> None:
    synthetic = load_set(finished.job.folder / BEST_SET)
    synthetic.metadata["student"] = synthetic.metadata["student"] | {"text": text}
    synthetic.save(file := tmp_path / "set.safetensors")
    with pytest.raises(ValueError, match=sentence) as caught:
        fitting_set(finished.job, file)
    assert str(caught.value).startswith(f"{file}: the text encoder of its texts")


def test_a_set_is_scored_with_each_student_beside_random_and_all_pairs(finished: Finished, tmp_path: Path) -> None:
    other = tmp_path / "wider.yaml"
    other.write_text("student.image.width: 16\n", encoding="utf-8")
    shutil.copytree(finished.job.specification.storage, tmp_path / "runs")
    job = tiny_job(tmp_path / "runs")
    rows = score_file(job, None, students=[str(other)], local=True)
    names = [f"{row}, {student}" for student in ("own student", "wider") for row in ("tiny", "random", "all pairs")]
    assert [row.name for row in rows] == names
    assert rows[0].mean == finished.rows[0].mean
    assert rows[3].mean != rows[0].mean
    assert all(row.recovery is not None for row in (rows[0], rows[3]))
    study = read_study(job.folder)
    assert list(study.students) == rows[3:]
    cells = transfers([*study.rows, *study.students])
    table = [(one, "own student") for one in ("tiny, 8 pairs", "random, 8 pairs", "all pairs")]
    assert [*cells] == [*table, *((one, "wider") for one, _ in table)]
    page = (job.folder / "report.html").read_text(encoding="utf-8")
    assert all(f'<th scope="row">{name}</th>' in page for name in names[3:])
    assert ">wider</text>" in page
    score_file(job, None, students=[str(other)], local=True)
    assert list(read_study(job.folder).students) == rows[3:], "once"


def test_students_of_one_name_or_without_a_file_are_refused(finished: Finished, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for file in (tmp_path / "one.yaml", tmp_path / "a" / "one.yaml"):
        file.write_text("student.image.width: 16", encoding="utf-8")
    study = finished.job.study
    for files, told in (
        (["one.yaml", "a/one.yaml"], "--students names two students 'one'"),
        (["none.yaml"], r"none\.yaml: the file cannot be read"),
    ):
        with pytest.raises(ConfigError, match=told):
            given_students(study, [str(tmp_path / file) for file in files], pairs=8)
    for content, told in (
        ("student.image.wide: 16", r"one\.yaml: student\.image\.wide"),
        ("seed: 4", r"one\.yaml: it has the key 'seed', expected student or keys inside of student"),
        ("1: 2", r"one\.yaml: it has the key 1, expected student"),
    ):
        (tmp_path / "one.yaml").write_text(content, encoding="utf-8")
        with pytest.raises(ConfigError, match=told):
            given_students(study, [str(tmp_path / "one.yaml")], pairs=8)
