"""Baselines of a study: coresets of the same budgets, and students trained on all pairs."""

from collections.abc import Callable
from concurrent.futures import Future, as_completed
from dataclasses import dataclass, field
from typing import Any

from engine.cluster import runtime
from engine.cluster.kept import Kept
from engine.cluster.scoring import Result, Scorer, score_coreset, score_full_data, warmup_path
from engine.config import components
from engine.config.schema import Study
from engine.io.progress import Bar
from engine.results.row import Provenance, Row
from engine.studies.executor import Executor
from engine.studies.job import Job

ALL_PAIRS = "all pairs"


@dataclass
class Baselines:
    """Scores that are being computed, at most as many at a time as the executor has lanes.

    The first full-data student runs before all others, because it records the statistics that coresets are chosen by.
    """

    job: Job
    scorer: Scorer
    executor: Executor[Result]
    coresets: dict[tuple[str, int], Future[Result]] = field(default_factory=dict)
    full: list[Future[Result]] = field(default_factory=list)
    all_started: bool = False

    def start_first(self) -> None:
        """Start the first full-data student, if the study has any; retrain it where its statistics are missing."""
        if not self.job.study.baselines.full_seeds:
            return
        inputs = self.job.specification.setup(device="cpu").inputs
        if not warmup_path(self.job.specification, inputs).exists():
            self.scorer.forget("full/0")
        self.full.append(self._start(score_full_data, 0, key="full/0"))

    def start_rest(self) -> None:
        """Queue the coresets, largest first, and then the other full-data students; a second call changes nothing."""
        if self.all_started:
            return
        self.all_started, given = True, self.job.study.baselines
        for pairs in sorted(given.pairs or [self.job.study.method.num_pairs], reverse=True):
            for name in given.coresets:
                self.coresets[name, pairs] = self._start(score_coreset, name, pairs, key=f"coreset/{name}/{pairs}")
        for index in range(1, given.full_seeds):
            self.full.append(self._start(score_full_data, index, key=f"full/{index}"))

    def _start(self, function: Callable[..., Result], *arguments: Any, key: str) -> Future[Result]:
        after = self.full[0] if self.full else None
        return self.executor.start(lambda: self.scorer.score(function, *arguments, key=key), after=after)

    def __len__(self) -> int:
        """Return the number of scores."""
        return len(self.coresets) + len(self.full)

    def rows(self, bar: Bar) -> list[Row]:
        """Wait for all scores and return their rows, small coresets first; ``bar`` advances by one per score."""
        scores = (*self.coresets.values(), *self.full)
        missing = [score for score in scores if not score.done()]
        bar.begin(bar.done + len(scores) - len(missing))
        for score in as_completed(missing):
            score.result()
            bar.advance()
        done = {score: score.result() for score in scores}
        given, rows = self.job.study.baselines, []
        for name, pairs in sorted(self.coresets, key=lambda key: (key[1], given.coresets.index(key[0]))):
            options = ", ".join(f"{key} {value}" for key, value in given.options.get(name, {}).items())
            label = f"{name} ({options})" if options else name
            rows.append(score_row(self.job, label, pairs, done[self.coresets[name, pairs]], coreset=name))
        return [*rows, full_row(self.job, [done[score] for score in self.full])] if self.full else rows


def set_name(name: str) -> str:
    """Return the name of a set in tables, marked as distilled where a coreset or all pairs have the same name."""
    return f"{name} (distilled)" if name in (ALL_PAIRS, *components.names("coreset")) else name


def make_scorer(job: Job, cluster: runtime.Cluster) -> Scorer:
    """Return the scorer of a job, whose processes get the resources of evaluations."""
    granted = runtime.granted(job.study.resources, "evaluation", cluster)
    return Scorer(job.specification, Kept(runtime.actor_options(granted)))


def lanes(scorer: Scorer, number: int) -> Executor[Result]:
    """Return what runs ``number`` scores at once; processes on GPUs end as soon as no score waits for them."""
    return Executor(number, none_waits=scorer.kept.release)


def score_row(job: Job, name: str, pairs: int, result: Result, *, note: str = "", **rest: Any) -> Row:
    """Return the row of one score; its name says whether the best epoch was chosen on test."""
    return Row.of_seeds(
        f"{name} (best on test)" if job.study.protocol.select_epoch == "best_on_test" else name,
        pairs,
        result["seeds"],
        learning_rate=result["learning_rates"]["image"],
        seconds=result.get("seconds"),
        size=result.get("size"),
        memory=result.get("memory"),
        protocol=protocol_label(job.study),
        data=job.shared,
        note=note,
        made_by=made_by(job, [result]),
        **rest,
    )


def full_row(job: Job, results: list[Result]) -> Row:
    """Return the row of the full-data students, one per result; ``seconds`` is the mean time to train one."""
    return Row.of_seeds(
        ALL_PAIRS,
        len(job.specification.setup(device="cpu").datasets["train"]),
        [seed for result in results for seed in result["seeds"]],
        full=True,
        learning_rate=results[0]["learning_rates"]["image"],
        seconds=sum(result["seconds"] for result in results) / len(results),
        protocol=protocol_label(job.study),
        data=job.shared,
        note=f"best val epoch of at most {job.study.baselines.full_epochs}, trained as the experts are",
        made_by=made_by(job, results),
    )


def made_by(job: Job, results: list[Result]) -> list[Provenance]:
    """Return the provenance of each score, as its process recorded it, with digests of the job's weights."""
    weights, recorded = job.specification.setup(device="cpu").weights, [result.get("provenance") for result in results]
    return [Provenance(**one, weights=weights) if one else Provenance() for one in recorded]


def protocol_label(study: Study) -> str:
    """Return the protocol in words, as it is printed below the table."""
    given, image, text = study.protocol, study.student.image, study.student.text
    encoders = "" if study.precision == "fp32" else f"; computed in {study.precision}"
    return (
        f"image encoder {image.encoder} ({image.train}, head {image.head}), text encoder {text.encoder} ({text.train}, "
        f"head {text.head}); students take {given.epochs} epochs of SGD (batch {given.batch_size}, momentum "
        f"{given.momentum:g}, {given.schedule} rate, chosen on val); outer step by {given.select_step}, student epoch "
        f"{given.select_epoch}; reported on test{encoders}"
    )
