"""Rows of a study's set under students other than its own, beside its table."""

from dataclasses import replace

from engine.cluster.scoring import Scorer, score_set, waited
from engine.config.student import Student
from engine.io.progress import Bar
from engine.io.storage import Location
from engine.results.row import Row
from engine.studies.baselines import score_row, set_name
from engine.studies.job import Job

NO_RECOVERY = "its recovery is not known, since only evaluate --students trains this student on all pairs"


def further_rows(job: Job, scorer: Scorer, file: Location, *, key: str, pairs: int, progress: Bar) -> list[Row]:
    """Score the set in a file with each further student that it was learned for, the second one first.

    ``progress`` advances by one per row. Nothing else is scored with these students: a note says that recovery is not
    known.
    """
    found = []
    for number, one in enumerate(job.specification.of_each_student()[1:], start=2):
        result = waited(replace(scorer, specification=one).submit(score_set, file, key=key))
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
