"""Sets from files: those that fit the student, and those whose texts nobody can read again."""

from pathlib import Path

import pytest

from engine.config.comparison import given_students
from engine.config.errors import ConfigError
from engine.results.history import BEST_SET
from engine.studies.evaluate import fitting_set, score_file
from engine.synthetic.set import load_set
from tests.finished import Finished


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
    rows = score_file(finished.job, None, students=[str(other)], local=True)
    names = [
        f"{row}, {student}" for student in ("own student", "wider") for row in ("synthetic_set", "random", "all pairs")
    ]
    assert [row.name for row in rows] == names
    assert rows[0].mean == finished.rows[0].mean
    assert rows[3].mean != rows[0].mean
    assert all(row.recovery is not None for row in (rows[0], rows[3]))


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
