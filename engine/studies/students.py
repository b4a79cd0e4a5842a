"""Rows of a study's set under students other than its own, beside its table."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace

from engine.cluster.scoring import Result, score_set
from engine.config.student import Student
from engine.io.progress import Bar
from engine.io.storage import Location
from engine.results.row import Row
from engine.studies.baselines import Baselines, score_row, set_name
from engine.studies.job import Job

NO_RECOVERY = "its recovery is not known, since only evaluate --students trains this student on all pairs"


def start_students(baselines: Baselines, file: Location, *, key: str) -> list[Future[Result]]:
    """Start scoring the set in a file with each student that it was learned for, before the baselines that wait."""

    def call(number: int) -> Callable[[], Result]:
        scorer = replace(baselines.scorer, specification=each[number])
        return lambda: scorer.score(score_set, file, key=key)

    each = baselines.job.specification.of_each_student()
    return [baselines.executor.start(call(number), urgent=True) for number in range(len(each))]


def further_rows(job: Job, scores: Sequence[Future[Result]], *, pairs: int, progress: Bar) -> list[Row]:
    """Wait for the scores of each further student, the second one first, and return their rows.

    ``progress`` advances by one per row. Nothing else is scored with these students: a note says that recovery is not
    known.
    """
    found = []
    for number, (one, score) in enumerate(zip(job.specification.of_each_student()[1:], scores, strict=True), start=2):
        result = score.result()
        progress.advance()
        own = replace(job, study=one.study, specification=one)
        student = numbered(number)
        note = f"{described(own.study.student, unseen=False)}; {NO_RECOVERY}"
        name = f"{set_name(job.name)}, {student}"
        found.append(score_row(own, name, pairs, result, note=note, student=student, unseen=False))
    return found


def numbered(number: int) -> str:
    """Return the name of a student that a study's set is learned for by its number, 1 for the study's own."""
    return f"student {number}"


def described(student: Student, *, unseen: bool | None) -> str:
    """Return whether a set was learned for a student, and the encoders of the student with their options."""
    kinds = {None: "another student", True: "an unseen student", False: "a student that the set was learned for"}
    towers = {"image": student.image, "text": student.text}
    encoders = ", ".join(
        " ".join([side, tower.encoder, *(f"{key} {value}" for key, value in tower.options.items())])
        for side, tower in towers.items()
    )
    return f"{kinds[unseen]}: {encoders}"
