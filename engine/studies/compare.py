"""Running the studies of a comparison one after the other, and their one table."""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from engine.cluster.search.trial import BEST_SET
from engine.config.comparison import Comparison, Entry, baseline_study, entries, transfer_studies
from engine.io.terminal import echo
from engine.results import published, table
from engine.results.published import PublishedRow
from engine.results.table import Row
from engine.rng import named_generator
from engine.studies.distill import finished_rows
from engine.studies.evaluate import coreset_rows, set_row
from engine.studies.job import Job, conclude, make_job


def compare(name: str, comparison: Comparison, overrides: dict[str, Any], *, local: bool) -> list[Row]:
    """Run what is missing of all studies, write their table below ``tables`` in the storage folder, and return it.

    Every study is resumed, or only read where it is finished.

    Raises:
        ValueError: a study cannot be run as it is configured.
        FileNotFoundError: data or weights are not there.
        RuntimeError: experts or trials failed for good.
    """
    stem = Path(name).stem
    baselines = make_job(stem, baseline_study(comparison, overrides))
    jobs = [(entry, make_job(_job_name(stem, entry), entry.study)) for entry in entries(comparison, overrides)]
    real, (first, distilled) = coreset_rows(baselines, local=local), jobs[0]
    rows = list(real)
    for (line, pairs), group in groupby(jobs, key=lambda one: (one[0].line.name, one[0].pairs)):
        found = []
        for number, (entry, job) in enumerate(group, start=1):
            echo(f"{line}, {pairs} pairs, distillation {number} of {entry.line.replicates}")
            found.append(finished_rows(job, local=local)[0])
        rows.append(replicated(line, found))
    rows = table.with_recovery(sorted(rows, key=lambda row: (row.full, row.pairs)))
    random = named_generator(baselines.study.seed, "ratio")
    rows = [table.with_ratio(row, real, random) if row.name == first.line.name else row for row in rows]
    for other, study in transfer_studies(comparison, overrides):
        echo(f"the first set, with {other.name}")
        rows += transferred(other.name, make_job(stem, study), first.line.name, distilled, local=local)
    folder = baselines.specification.storage / "tables" / stem
    table.write(folder, rows)
    given = comparison.published.rows() if comparison.published else []
    theirs = [PublishedRow(**row.model_dump()) for row in given]
    below = [published.render_text(theirs)] if theirs else []
    conclude(baselines, rows, *below, f"table:          {folder / 'table.md'}")
    return rows


def transferred(student: str, job: Job, line: str, distilled: Job, *, local: bool) -> list[Row]:
    """Return the rows of a line's set, of random pairs and of all pairs with another student, whose name is in each."""
    rows = [
        set_row(job, distilled.folder / BEST_SET, line, local=local),
        *coreset_rows(job, local=local),
    ]
    return [replace(row, name=f"{row.name}, {student}") for row in table.with_recovery(rows)]


def dry_run(name: str, comparison: Comparison, overrides: dict[str, Any]) -> str:
    """Return the studies that a comparison consists of, a line each, and which of them are finished."""
    stem = Path(name).stem
    jobs = [(entry, make_job(_job_name(stem, entry), entry.study)) for entry in entries(comparison, overrides)]
    lines = [f"{entry.line.name:<32} {entry.pairs:>5} pairs, seed {entry.seed}: {_state(job)}" for entry, job in jobs]
    return "\n".join([comparison.note, *lines])


def _state(job: Job) -> str:
    return f"finished in {job.folder}" if job.finished else "to be run"


def _job_name(stem: str, entry: Entry) -> str:
    """Return what the study is called in folders and in MLflow."""
    word = "".join(letter if letter.isalnum() else "_" for letter in entry.line.name.lower())
    return f"{stem}_{entry.pairs}_{word}"


def replicated(name: str, rows: Sequence[Row]) -> Row:
    """Return one row of several distillations: the mean of their means and of their ± over student seeds.

    A note tells the standard deviation of mean recall over the distillations, where there are several.
    """
    first = rows[0]
    mean = {key: statistics.fmean(row.mean[key] for row in rows) for key in first.mean}
    std = {key: statistics.fmean(row.std[key] for row in rows) for key in first.std}
    seconds = [row.seconds for row in rows if row.seconds is not None]
    note = ""
    if len(rows) > 1:
        between = statistics.stdev(row.mean["mean_recall"] for row in rows)
        note = f"mean of {len(rows)} distillations, whose mean recalls have a standard deviation of {between:.2f}"
    return Row(
        name=name,
        pairs=first.pairs,
        mean=mean,
        std=std,
        seeds=first.seeds,
        learning_rate=first.learning_rate,
        seconds=statistics.fmean(seconds) if seconds else None,
        size=first.size,
        memory=max((row.memory for row in rows if row.memory is not None), default=None),
        protocol=first.protocol,
        note=note,
        by_student={
            key: [one for row in rows for one in row.by_student[key]]
            for key in first.by_student
            if all(key in row.by_student for row in rows)
        },
    )
