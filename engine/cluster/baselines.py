"""What a distilled set is held against: coresets of the same budgets, and students of all pairs."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from engine.cluster.job import Job
from engine.cluster.scoring import Result, Score, Scorer, evidence_path, score_coreset, score_full_data, waited
from engine.config import Study
from engine.tracking.table import Row


@dataclass
class Baselines:
    """Scores on their way; Ray computes them as fast as it has room.

    The first full-data student comes first, because coresets are chosen by what it learned.
    """

    job: Job
    scorer: Scorer
    coresets: dict[tuple[str, int], Score] = field(default_factory=dict)
    full: list[Score] = field(default_factory=list)

    def submit_first(self) -> None:
        """Queue the first full-data student, again where the evidence that it leaves is gone."""
        if not evidence_path(self.job.specification).exists():
            self.scorer.forget("full/0")
        self.full.append(self.scorer.submit(score_full_data, 0, key="full/0"))

    def submit_rest(self, lanes: int) -> None:
        """Queue the coresets and the other full-data students, at most ``lanes`` of them running at once.

        Ray gives a free CPU to whatever is queued for it before it gives it to a trial; each score therefore waits for
        the one that stands ``lanes`` before it, and so leaves the trials their share.
        """
        given, ahead = self.job.study.baselines, deque([self.full[0]] * lanes)

        def submit(function: Callable[..., Result], *arguments: Any, key: str) -> Score:
            ahead.append(self.scorer.submit(function, *arguments, key=key, after=ahead.popleft()))
            return ahead[-1]

        for pairs in given.pairs or [self.job.study.method.num_pairs]:
            for name in given.coresets:
                self.coresets[name, pairs] = submit(score_coreset, name, pairs, key=f"coreset/{name}/{pairs}")
        for index in range(1, given.full_seeds):
            self.full.append(submit(score_full_data, index, key=f"full/{index}"))

    def __len__(self) -> int:
        """Return the number of scores."""
        return len(self.coresets) + len(self.full)

    def rows(self, bar: tqdm) -> list[Row]:
        """Wait for all scores and return their rows, coresets first; ``bar`` advances by one a score."""
        rows = [score_row(self.job, name, n, _counted(bar, score)) for (name, n), score in self.coresets.items()]
        return [*rows, full_row(self.job, [_counted(bar, score) for score in self.full])]


def _counted(bar: tqdm, score: Score) -> Result:
    result = waited(score)
    bar.update()
    return result


def score_row(job: Job, name: str, pairs: int, result: Result, *, note: str = "") -> Row:
    """Return the table's row of one score."""
    return Row.of_seeds(
        name,
        pairs,
        result["seeds"],
        learning_rate=result["rates"]["image"],
        seconds=result.get("seconds"),
        size=result.get("size"),
        protocol=protocol_label(job.study),
        note=note,
    )


def full_row(job: Job, results: list[Result]) -> Row:
    """Return the row of the full-data students, whose seeds are one a result."""
    return Row.of_seeds(
        "all pairs",
        len(job.specification.problem().pairs["train"]),
        [seed for result in results for seed in result["seeds"]],
        full=True,
        learning_rate=results[0]["rates"]["image"],
        seconds=sum(result["seconds"] for result in results) / len(results),
        protocol=protocol_label(job.study),
        note=f"best val epoch of at most {job.study.baselines.full_epochs}, trained as the experts are",
    )


def protocol_label(study: Study) -> str:
    """Return the protocol in words, as it stands below the table."""
    given, image, text = study.protocol, study.student.image, study.student.text
    return (
        f"image encoder {image.encoder} ({image.train}, head {image.head}), text encoder {text.encoder} ({text.train}, "
        f"head {text.head}); students take {given.epochs} epochs of SGD (batch {given.batch_size}, momentum "
        f"{given.momentum:g}, {given.schedule} rate, chosen on val); outer step by {given.select_step}, student epoch "
        f"{given.select_epoch}; reported on test"
    )
