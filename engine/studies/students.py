"""Rows of a study's set under students other than its own, beside its table."""

from dataclasses import replace

from engine.cluster.scoring import Scorer, score_set, waited
from engine.config.student import Student
from engine.io.storage import Location
from engine.results.row import Row
from engine.studies.baselines import score_row
from engine.studies.job import Job


def further_rows(job: Job, scorer: Scorer, file: Location, *, key: str, pairs: int) -> list[Row]:
    """Score the set in a file with each further student that it was learned for, the second one first.

    Nothing else is scored with them, so that these rows have no recovery.
    """
    found = []
    for number, one in enumerate(job.specification.of_each_student()[1:], start=2):
        result = waited(replace(scorer, specification=one).submit(score_set, file, key=key))
        own = replace(job, study=one.study, specification=one)
        note = f"a student that the set was learned for: {_described(one.study.student)}"
        found.append(score_row(own, f"{job.name}, student {number}", pairs, result, note=note))
    return found


def _described(student: Student) -> str:
    """Return the encoders of a student with their options."""
    towers = {"image": student.image, "text": student.text}
    return ", ".join(
        " ".join([side, tower.encoder, *(f"{key} {value}" for key, value in tower.options.items())])
        for side, tower in towers.items()
    )
