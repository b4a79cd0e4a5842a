"""Scoring one synthetic set."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from engine.build import data_set
from engine.cluster.errors import one_sentence_errors
from engine.cluster.scoring import score_classes, score_set
from engine.config.classes import read_classes
from engine.config.comparison import given_students
from engine.config.schema import Study
from engine.data.classes import Classes
from engine.io.files import digest
from engine.io.progress import bar, echo
from engine.io.storage import Location
from engine.report.write import write_page
from engine.results.files import REPORT, STUDENTS, read_students, write_students
from engine.results.history import BEST_SET
from engine.results.render import render_text
from engine.results.row import OWN, Row
from engine.results.statistics import replicated, with_recovery
from engine.rewording import learned_for, reworded
from engine.studies.baselines import make_scorer, score_row, set_name
from engine.studies.coresets import coreset_rows
from engine.studies.distill import start
from engine.studies.job import EXPERIMENT, Job, make_job
from engine.studies.record import keep, record_row, record_rows, record_table, study_data, study_tags
from engine.studies.registered import set_location
from engine.studies.students import described
from engine.studies.tracked import open_run
from engine.synthetic.folder import set_digest
from engine.synthetic.set import SyntheticSet, load_set
from engine.tracking.mlflow.tracker import RunIdentity


def score_file(
    job: Job, path: str | None, *, students: Sequence[str] = (), classes: str | None = None, local: bool
) -> list[Row]:
    """Score a set, in a file, a folder or MLflow's registry, under the job's protocol; print its row and return it.

    Without ``path``, the set is the one that the job has distilled. With ``students``, YAML files of changes of the
    student, the set is scored with each of these too, and every student has rows of random pairs and of all pairs,
    which ``record_students`` keeps. With ``classes``, the name of what the data are classified by or the path of a YAML
    file, the set is scored by zero-shot classification too, and has a run in MLflow.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The shape of its images or texts does not fit a student, or there are no such classes.
        ConnectionError: MLflow does not answer; the scores are kept, and recorded when the command is repeated.
    """
    if classes is not None and students:
        raise ValueError(f"--classes is {classes!r}, expected it without --students.")
    known = None if classes is None else classes_named(job, classes)
    file = set_location(path, job.specification.storage) if path else job.folder / BEST_SET
    jobs: dict[str, Job] = {}
    if students:
        others = given_students(job.study, students, pairs=len(load_set(file)))
        jobs = {name: make_job(job.name, study) for name, study in others.items()}
        for one in jobs.values():
            fitting_set(one, file)
        own = file == job.folder / BEST_SET
        sets = {set_name(job.name if own else file.stem): [file]}
        rows = [row for name, one in jobs.items() for row in rows_of_student(name, one, sets, local=local)]
    else:
        rows = [set_row(job, file, file.stem, local=local, classes=known)]
    echo(f"\n{render_text(rows)}")
    if jobs:
        record_students(job, file, rows, {name: one.study for name, one in jobs.items()})
    if known:
        key = digest("classes/1", job.key, set_digest(file), known.identity)
        run = open_run(job, RunIdentity(EXPERIMENT, f"{rows[0].name}, {known.name}", key, rows[0].note))
        run.tags(study_tags(job.study) | {"classes": known.name})
        run.data(study_data(job.specification))
        record_row(run, rows[0])
    return rows


def rows_of_student(student: str, job: Job, sets: Mapping[str, Sequence[Location]], *, local: bool) -> list[Row]:
    """Return rows of sets by their names, of random pairs and of all pairs with the student that each row names.

    Several sets of one name, of as many distillations, are one row.
    """
    own = []
    for name, files in sets.items():
        found, unseen = [set_row(job, file, name, local=local) for file in files], _unseen(load_set(files[0]), job)
        row = replicated(name, found)
        said = [] if student == OWN else [described(job.study.student, unseen=unseen)]
        own.append(replace(row, unseen=unseen, note="; ".join(filter(None, [*said, found[0].note, row.note]))))
    rows = with_recovery([*own, *coreset_rows(job, local=local)])
    return [replace(row, name=f"{row.name}, {student}", student=student) for row in rows]


def _unseen(synthetic: SyntheticSet, job: Job) -> bool | None:
    """Return whether a set was not learned for the job's student; None where the set does not say for which."""
    known = learned_for(synthetic.metadata, job.study)
    return None if known is None else not known


def record_students(job: Job, file: Location, rows: Sequence[Row], students: Mapping[str, Study]) -> None:
    """Keep the rows of one set with several students, whose studies are given: in MLflow, a run for each row.

    Those of a finished study's own set stand below its run, and in its report, without those of its own student, which
    are there already. Rows of another set stand below a run of their own.

    Raises:
        ConnectionError: MLflow does not answer.
    """
    if own := file == job.folder / BEST_SET and job.finished:
        rows = [row for row in rows if row.student != OWN]
        write_students(job.folder, rows)
        write_page(job.folder)
        identity = RunIdentity(EXPERIMENT, job.name, job.key, job.study.note)
    else:
        key = digest("students/1", job.key, set_digest(file))
        identity = RunIdentity(EXPERIMENT, f"{file.stem} with other students", key)
    run = open_run(job, identity)
    run.tags(study_tags(job.study))
    run.data(study_data(job.specification))
    record_rows(run, rows, students=students)
    record_table(run, read_students(job.folder) if own else rows, name="other students" if own else "results")
    for name in (STUDENTS, REPORT) if own else ():
        keep(run, job.folder / name)
    run.finish("FINISHED")


def classes_named(job: Job, name: str) -> Classes:
    """Return the classes of test in the YAML file ``name``, or those that the data set knows by this name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be used, the data set knows no such classes, or no image of test has a class.
    """
    own = getattr(data_set(job.study), "classes", None)
    if Path(name).suffix in (".yaml", ".yml"):
        found = read_classes(Path(name))
    elif own is None:
        raise ValueError(
            f"--classes is {name!r}, but data.name={job.study.data.name} knows no classes of its own, expected the "
            "path of a YAML file with labels and classes."
        )
    else:
        found = own(name)
    found.among(job.specification.setup(device="cpu").datasets["test"].image_names)
    return found


def set_row(job: Job, file: Location, name: str, *, local: bool, classes: Classes | None = None) -> Row:
    """Score a synthetic set as ``score_file`` does, and return its row.

    A note says whether its texts were reworded, and what its accuracies are of.
    """
    synthetic = fitting_set(job, file)
    job, cluster = start(job, local=local)
    scorer, notes = make_scorer(job, cluster), [synthetic.metadata.get("reworded", "")]
    with one_sentence_errors(), bar(f"scoring {name}", total=1 + bool(classes), unit="scores") as progress:
        result = scorer.score(score_set, file, key=f"set/{set_digest(file)}")
        progress.advance()
        if classes:
            names = job.specification.setup(device="cpu").datasets["test"].image_names
            notes.append(classes.sentence(names))
            key = f"classes/{set_digest(file)}/{classes.identity}"
            more = scorer.score(score_classes, file, classes, result["learning_rates"], key=key)
            progress.advance()
            seeds = [one | other for one, other in zip(result["seeds"], more["seeds"], strict=True)]
            result = {**result, "seeds": seeds}
    scorer.kept.release()
    return score_row(job, name, len(synthetic), result, note="; ".join(filter(None, notes)))


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
