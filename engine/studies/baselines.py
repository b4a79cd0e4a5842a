"""What a distilled set is held against: coresets of the same budgets, and students of all pairs."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from engine.cluster.scoring import Result, Scorer, score_coreset, score_full_data, waited, warmup_path
from engine.config.load import Study
from engine.results.table import Row
from engine.studies.executor import Executor
from engine.studies.job import Job


@dataclass
class Baselines:
    """Scores on their way, as many at a time as there are lanes.

    The first full-data student comes first, because coresets are chosen by what it learned.
    """

    job: Job
    scorer: Scorer
    executor: Executor[Result]
    coresets: dict[tuple[str, int], Future[Result]] = field(default_factory=dict)
    full: list[Future[Result]] = field(default_factory=list)

    def start_first(self) -> None:
        """Start the first full-data student if there is to be one, again where the evidence that it leaves is gone."""
        if not self.job.study.baselines.full_seeds:
            return
        if not warmup_path(self.job.specification).exists():
            self.scorer.forget("full/0")
        self.full.append(self._start(score_full_data, 0, key="full/0"))

    def start_rest(self) -> None:
        """Have the coresets and the other full-data students follow, largest coresets first."""
        given = self.job.study.baselines
        for pairs in sorted(given.pairs or [self.job.study.method.num_pairs], reverse=True):
            for name in given.coresets:
                self.coresets[name, pairs] = self._start(score_coreset, name, pairs, key=f"coreset/{name}/{pairs}")
        for index in range(1, given.full_seeds):
            self.full.append(self._start(score_full_data, index, key=f"full/{index}"))

    def _start(self, function: Callable[..., Result], *arguments: Any, key: str) -> Future[Result]:
        after = self.full[0] if self.full else None
        return self.executor.start(lambda: waited(self.scorer.submit(function, *arguments, key=key)), after=after)

    def __len__(self) -> int:
        """Return the number of scores."""
        return len(self.coresets) + len(self.full)

    def rows(self, bar: tqdm) -> list[Row]:
        """Wait for all scores and return their rows, small coresets first; ``bar`` advances by one a score."""
        done = {(pairs, name): _counted(bar, score) for (name, pairs), score in self.coresets.items()}
        full = [full_row(self.job, [_counted(bar, score) for score in self.full])] if self.full else []
        order = [(n, name) for n in sorted({n for n, _ in done}) for name in self.job.study.baselines.coresets]
        label = self._label
        return [*(score_row(self.job, label(name), n, done[n, name]) for n, name in order), *full]

    def _label(self, name: str) -> str:
        """Return a coreset's name with its options, as far as it is given any."""
        options = self.job.study.baselines.options.get(name, {})
        return f"{name} ({', '.join(f'{key} {value}' for key, value in options.items())})" if options else name


def _counted(bar: tqdm, score: Future[Result]) -> Result:
    result = score.result()
    bar.update()
    return result


def score_row(job: Job, name: str, pairs: int, result: Result, *, note: str = "") -> Row:
    """Return the table's row of one score; a name says where the test split has chosen."""
    return Row.of_seeds(
        f"{name} (best on test)" if job.study.protocol.select_epoch == "best_on_test" else name,
        pairs,
        result["seeds"],
        learning_rate=result["learning_rates"]["image"],
        seconds=result.get("seconds"),
        size=result.get("size"),
        memory=result.get("memory"),
        protocol=protocol_label(job.study),
        note=note,
    )


def full_row(job: Job, results: list[Result]) -> Row:
    """Return the row of the full-data students, whose seeds are one a result."""
    return Row.of_seeds(
        "all pairs",
        len(job.specification.setup(device="cpu").pairs["train"]),
        [seed for result in results for seed in result["seeds"]],
        full=True,
        learning_rate=results[0]["learning_rates"]["image"],
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
