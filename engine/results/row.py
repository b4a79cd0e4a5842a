"""Row of a result table: the score of one set under one protocol."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

METRICS = {f"{side}{k}": f"{side}@{k}" for side in ("IR", "TR") for k in (1, 5, 10)} | {"mean_recall": "mean"}
"""The metrics of a score, and their titles in tables."""

OWN = "own student"
"""The student of a study, in the rows of a set that several students scored."""

CLASS_METRICS = {"top1": "top-1", "top5": "top-5"}
"""Metrics of rows that were scored by zero-shot classification too."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Code, libraries, device, precision and weights that computed a score; None and empty if that was not recorded.

    ``weights`` holds a digest of each encoder's weights by modality, ``precision`` is the study's; all others are those
    of ``engine.provenance`` in the process that computed the score: ``code`` is a digest of the engine's source,
    ``numbers`` of its part that decides numbers.
    """

    commit: str | None = None
    code: str | None = None
    numbers: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None
    precision: str | None = None
    weights: Mapping[str, str] = field(default_factory=dict)

    def sentence(self) -> str:
        """Return commit, versions of torch and ray, device, and a precision other than fp32, separated by commas."""
        libraries = [f"{name} {self.versions[name]}" for name in ("torch", "ray") if name in self.versions]
        unusual = [self.precision] if self.precision not in (None, "fp32") else []
        words = [f"commit {self.commit}", *libraries, self.device or "", *unusual]
        return ", ".join(words) if self.commit else "not recorded"


@dataclass(frozen=True, kw_only=True)
class Row:
    """Score of one set under one protocol; recalls in percent.

    Args:
        std: Standard deviation over student seeds trained on one set; where the row averages several distillations,
            the mean of their standard deviations. It is not the spread between distillations.
        seeds: Students of one set; 0 where the number is unknown.
        full: The set is all real pairs, against which ``recovery`` is computed.
        recovery: Mean recall in percent of that of all pairs.
        robustness: ``robustness_score``, which also needs a row of random pairs.
        learning_rate: Learning rate of the students' image tower; None where averaged distillations differ.
        seconds: Time to learn or choose the set.
        size: Bytes of the set.
        memory: Peak bytes of the process (of the GPU, where there is one) that learned the set.
        data: What the splits of the data share, in words; empty where this was not recorded.
        by_student: Metrics of the single students in percent, a list per distillation, as far as they are known.
        made_by: Provenance of each score that the row averages.
        coreset: Name of the coreset that chose the pairs; empty for other sets.
        student: Name of the student that was scored, where several were; empty for the study's own.
        unseen: Whether a learned set was not learned for its student; None for real pairs, and where this is unknown.
    """

    name: str
    pairs: int
    mean: Mapping[str, float]
    std: Mapping[str, float] = field(default_factory=dict)
    seeds: int = 1
    full: bool = False
    recovery: float | None = None
    robustness: float | None = None
    learning_rate: float | None = None
    seconds: float | None = None
    size: int | None = None
    memory: int | None = None
    protocol: str = ""
    data: str = ""
    note: str = ""
    by_student: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    made_by: Sequence[Provenance] = field(default_factory=lambda: [Provenance()])
    coreset: str = ""
    student: str = ""
    unseen: bool | None = None

    @property
    def kind(self) -> str:
        """What the set is: all pairs, a coreset, or a set of another origin, such as a distilled one."""
        return "all pairs" if self.full else "coreset" if self.coreset else "set"

    def __post_init__(self) -> None:
        unknown = [key for key in (*self.mean, *self.std, *self.by_student) if key not in {**METRICS, **CLASS_METRICS}]
        if unknown:
            raise ValueError(f"row {self.name!r}: got the metric {unknown[0]!r}, expected one of {', '.join(METRICS)}.")

    @classmethod
    def of_seeds(cls, name: str, pairs: int, scores: Sequence[Mapping[str, float]], **rest: Any) -> "Row":
        """Make a row from the scores of one set's students, whose keys may include more than the metrics.

        Standard deviations divide by n - 1; a single student has none.
        """
        assert scores, "a row needs the scores of at least one student"
        columns = {
            key: [float(score[key]) for score in scores] for key in (*METRICS, *CLASS_METRICS) if key in scores[0]
        }
        mean = {key: statistics.fmean(values) for key, values in columns.items()}
        std = {key: statistics.stdev(values) for key, values in columns.items() if len(values) > 1}
        students = {key: [values] for key, values in columns.items()}
        return cls(name=name, pairs=pairs, mean=mean, std=std, seeds=len(scores), by_student=students, **rest)
