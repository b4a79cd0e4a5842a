"""Scoring one synthetic set."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from engine.cluster.errors import one_sentence_errors
from engine.cluster.scoring import score_set, waited
from engine.cluster.search.trial import BEST_SET
from engine.config.comparison import given_students
from engine.io.storage import Location
from engine.io.terminal import echo
from engine.results.render import render_text
from engine.results.row import Row
from engine.results.statistics import with_recovery
from engine.rewording import reworded
from engine.studies.baselines import make_scorer, score_row
from engine.studies.coresets import coreset_rows
from engine.studies.distill import start
from engine.studies.job import Job, make_job
from engine.studies.registered import set_location
from engine.synthetic.folder import set_digest
from engine.synthetic.set import SyntheticSet, load_set


def score_file(job: Job, path: str | None, *, students: Sequence[str] = (), local: bool) -> list[Row]:
    """Score a set, in a file, a folder or MLflow's registry, under the job's protocol; print its row and return it.

    Without ``path``, the set is the one that the job has distilled. With ``students``, YAML files of changes of the
    study, the set is scored with each of these too, and every student has rows of random pairs and of all pairs.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The shape of its images or texts does not fit a student.
    """
    file = set_location(path, job.specification.storage) if path else job.folder / BEST_SET
    if students:
        others = given_students(job.study, students, pairs=len(load_set(file)))
        jobs = {name: make_job(job.name, study) for name, study in others.items()}
        for one in jobs.values():
            fitting_set(one, file)
        rows = [row for name, one in jobs.items() for row in rows_of_student(name, one, {file.stem: file}, local=local)]
    else:
        rows = [set_row(job, file, file.stem, local=local)]
    echo(f"\n{render_text(rows)}")
    return rows


def rows_of_student(student: str, job: Job, sets: Mapping[str, Location], *, local: bool) -> list[Row]:
    """Return rows of sets by their names, of random pairs and of all pairs with the student that each row names."""
    own = [set_row(job, file, name, local=local) for name, file in sets.items()]
    rows = with_recovery([*own, *coreset_rows(job, local=local)])
    return [replace(row, name=f"{row.name}, {student}") for row in rows]


def set_row(job: Job, file: Location, name: str, *, local: bool) -> Row:
    """Score a synthetic set as ``score_file`` does, and return its row; a note says whether its texts were reworded."""
    synthetic = fitting_set(job, file)
    job, cluster = start(job, local=local)
    scorer = make_scorer(job, cluster)
    with one_sentence_errors():
        result = waited(scorer.submit(score_set, file, key=f"set/{set_digest(file)}"))
    return score_row(job, name, len(synthetic), result, note=synthetic.metadata.get("reworded", ""))


def fitting_set(job: Job, file: Location) -> SyntheticSet:
    """Load a set for the job's student, with texts of its text encoder.

    Raises:
        ValueError: The encoder of the set's texts is unknown, or the shape of its images or texts does not fit.
    """
    setup = job.specification.setup(device="cpu")
    loaded = load_set(file)
    try:
        synthetic = reworded(job.study, setup, job.specification.paths, loaded)
    except ValueError as error:
        raise ValueError(f"{file}: the text encoder of its texts, in its metadata, cannot be built: {error}") from error
    for name, found, expected in (
        ("images", tuple(synthetic.images.shape[1:]), setup.datasets["train"].images.shape[1:]),
        ("texts", tuple(synthetic.texts.shape[1:]), setup.text_shape()),
    ):
        if found != expected:
            raise ValueError(
                f"{file}: its {name} have the shape {found}, expected {expected} for this student and data."
            )
    return synthetic
