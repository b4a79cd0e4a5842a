"""Sets from files: those that fit the student, and those whose texts nobody can read again."""

import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from engine.config.comparison import given_students
from engine.config.errors import ConfigError
from engine.io.files import read_json
from engine.report.facts import commands
from engine.report.recall import transfers
from engine.report.study import read_study
from engine.results.history import BEST_SET
from engine.results.row import Row
from engine.studies.distill import distill
from engine.studies.evaluate import fitting_set, score_file
from engine.studies.job import EXPERIMENT, make_job
from engine.studies.record import record_rows
from engine.studies.tracked import open_run
from engine.synthetic.set import load_set
from engine.tracking.mlflow.tracker import RunIdentity
from tests.finished import Finished
from tests.runs import recorded, recorded_rows
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


@pytest.fixture(scope="module")
def named(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Return a study that has the name of a coreset, with experts and scores of the tiny one."""
    folder, left_out = tmp_path_factory.mktemp("named"), ("mlflow.db*", "artifacts", "spool", "studies")
    shutil.copytree(finished.job.specification.storage, folder / "runs", ignore=shutil.ignore_patterns(*left_out))
    job = make_job("random", tiny_job(folder / "runs", "budget.outer_steps=2", "baselines.coresets=[random]").study)
    return Finished(job, distill(job))


def test_a_study_may_have_the_name_of_a_coreset(named: Finished) -> None:
    own, random, full = named.rows
    assert [(row.name, row.kind) for row in named.rows] == [
        ("random (distilled)", "set"),
        ("random", "coreset"),
        ("all pairs", "all pairs"),
    ]
    assert own.robustness is not None
    runs = {run.name: run for run in recorded_rows(named.job)}
    for row in (own, random, full):
        run = runs[f"{row.name}, {row.pairs} pairs"]
        assert (run.tags["kind"], run.metrics["test/mean_recall"]) == (row.kind, row.mean["mean_recall"])
    made_by = dict(commands(read_study(named.job.folder)))
    assert [made_by[f"{row.name}, 8 pairs"].split()[1] for row in (own, random)] == ["distill", "coreset"]


def test_a_set_is_scored_with_each_student_beside_random_and_all_pairs(named: Finished, tmp_path: Path) -> None:
    other = tmp_path / "wider.yaml"
    other.write_text("student.image.width: 16\n", encoding="utf-8")
    job, sets = named.job, ("random (distilled)", "random", "all pairs")
    rows = score_file(job, None, students=[str(other)], local=True)
    names = [f"{row}, {student}" for student in ("own student", "wider") for row in sets]
    assert [row.name for row in rows] == names
    assert rows[0].mean == named.rows[0].mean
    assert rows[3].mean != rows[0].mean
    assert all(row.recovery is not None for row in (rows[0], rows[3]))
    study = read_study(job.folder)
    assert list(study.students) == rows[3:]
    cells = transfers([*study.rows, *study.students])
    labels = ("random (distilled), 8 pairs", "random, 8 pairs", "all pairs")
    assert [*cells] == [(label, student) for student in ("own student", "wider") for label in labels]
    page = (job.folder / "report.html").read_text(encoding="utf-8")
    assert all(f'<th scope="row">{name}</th>' in page for name in names[3:])
    assert ">wider</text>" in page
    score_file(job, None, students=[str(other)], local=True)
    assert list(read_study(job.folder).students) == rows[3:], "once"

    [run], _ = recorded(job)
    assert (run.name, run.status) == ("random", "FINISHED")
    assert {"students.json", "report.html"} <= run.artifacts
    table = read_json(run.folder / "other students.json")["data"]
    assert [line[:2] for line in table] == [[row.name, row.pairs] for row in rows[3:]]
    of_rows = recorded_rows(job)
    runs = {run.name: run for run in of_rows}
    assert len(of_rows) == len(runs) == len(named.rows) + 3, "once"
    for row in rows[3:]:
        run = runs[f"{row.name}, {row.pairs} pairs"]
        assert (run.status, run.parent, run.tags["student"]) == ("FINISHED", "random", "wider")
        assert run.tags["kind"] == row.kind
        assert run.metrics["test/mean_recall"] == row.mean["mean_recall"]
        assert run.metrics["test/recovery"] == row.recovery
        assert runs["random (distilled), 8 pairs"].metrics.keys() >= run.metrics.keys()
    unseen = [runs[f"random (distilled), {name}8 pairs"].tags["unseen"] for name in ("", "wider, ")]
    assert unseen == ["false", "true"]
    assert rows[3].note.startswith("an unseen student: image convnet ")


def test_another_set_with_other_students_has_a_run_of_its_own_and_none_while_mlflow_is_away(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "frozen.yaml"
    other.write_text("student.image.train: frozen\n", encoding="utf-8")
    file = tmp_path / "random.safetensors"
    shutil.copyfile(finished.job.folder / BEST_SET, file)
    job = tiny_job(tmp_path / "runs")
    with socket.socket() as port, monkeypatch.context() as away:
        port.bind(("127.0.0.1", 0))
        away.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port.getsockname()[1]}")
        with pytest.raises(ConnectionError, match="No MLflow answered"):
            score_file(job, str(file), students=[str(other)], local=True)
    rows = score_file(job, str(file), students=[str(other)], local=True)
    assert [row.name for row in rows[:2]] == ["random (distilled), own student", "random, own student"]
    [study], _ = recorded(job)
    assert (study.name, study.status, study.tags["data set"]) == ("random with other students", "FINISHED", "shapes")
    runs = {run.name: run for run in recorded_rows(job)}
    assert runs.keys() == {f"{row.name}, {row.pairs} pairs" for row in rows}
    assert {run.parent for run in runs.values()} == {study.name}
    found = runs["random (distilled), frozen, 8 pairs"]
    assert (found.tags["unseen"], found.tags["scope"]) == ("true", "image frozen, text frozen")
    assert runs["random (distilled), own student, 8 pairs"].tags["unseen"] == "false"
    assert not (job.folder / "students.json").exists(), "the set is of no study here"


def test_rows_of_one_name_and_another_kind_are_other_runs(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    row = Row.of_seeds("random", 8, [{"mean_recall": 5.0}])
    run = open_run(job, RunIdentity(EXPERIMENT, "both", "key"))
    record_rows(run, [row, replace(row, coreset="random", mean={"mean_recall": 3.0})])
    run.finish("FINISHED")
    found = {run.tags["kind"]: run.metrics["test/mean_recall"] for run in recorded_rows(job)}
    assert found == {"set": 5.0, "coreset": 3.0}


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
