"""Validation of a run between its outer steps: a fresh student of each kind, scored on val."""

import statistics
from collections.abc import Sequence

from engine.data.prepared import PreparedPairs
from engine.evaluation.protocol import Protocol, learned_learning_rates, prepare_set, student_of_seed
from engine.evaluation.student import score
from engine.models.two_tower import TwoTower
from engine.synthetic.set import SyntheticSet


def validate(
    synthetic: SyntheticSet, students: Sequence[tuple[TwoTower, PreparedPairs]], protocol: Protocol, *, seed: int
) -> dict[str, float]:
    """Return the val metrics of a fresh student, trained on a set at the set's learned rates; each comes with its val.

    Where the set is learned for further students, they are the means over one of each, and the mean recall of each has
    the student's number behind its name.
    """
    found = []
    for number, (student, val) in enumerate(students):
        training = prepare_set(student, synthetic.of_student(number), student.device)
        assert training.learning_rates is not None
        params = student_of_seed(
            student,
            training,
            protocol,
            learning_rates=learned_learning_rates(training.learning_rates, protocol),
            seed=seed,
            name="validate",
            selection_split=val,
        )
        found.append(score(student, params, val))
    means = {f"val/{name}": statistics.fmean(one[name] for one in found) for name in found[0]}
    each = {f"val/mean_recall/{number}": one["mean_recall"] for number, one in enumerate(found)}
    return means | (each if len(found) > 1 else {})
