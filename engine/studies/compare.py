"""Running the studies of a comparison in order, and their common table."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from engine.config.comparison import Comparison, Entry, baseline_study, entries, transfer_studies
from engine.io.progress import echo
from engine.results import published
from engine.results.files import TABLE_FILES, write_table
from engine.results.history import BEST_SET
from engine.results.published import PublishedRow
from engine.results.row import Row
from engine.results.statistics import replicated, with_ratio, with_recovery
from engine.rng import named_generator
from engine.studies.coresets import coreset_rows
from engine.studies.distill import finished_rows
from engine.studies.evaluate import rows_of_student
from engine.studies.job import Job, conclude, make_job
from engine.studies.record import keep, record_page, record_rows, record_table
from engine.studies.tracked import tracked


def compare(name: str, comparison: Comparison, overrides: dict[str, Any], *, local: bool) -> list[Row]:
    """Run or resume every unfinished study of a comparison, print their common table and return it.

    The table is written to ``tables/NAME`` in the storage folder. A line with several distillations is one row.
    """
    stem = Path(name).stem
    baselines = make_job(stem, baseline_study(comparison, overrides))
    jobs = _jobs(stem, comparison, overrides)
    real, first = coreset_rows(baselines, local=local), jobs[0][0]
    rows = list(real)
    for (line, pairs), group in groupby(jobs, key=lambda one: (one[0].line.name, one[0].pairs)):
        found = []
        for number, (entry, job) in enumerate(group, start=1):
            echo(f"{line}, {pairs} pairs, distillation {number} of {entry.line.replicates}")
            found.append(finished_rows(job, local=local)[0])
        rows.append(replicated(line, found))
    rows = with_recovery(sorted(rows, key=lambda row: (row.full, row.pairs)))
    random = named_generator(baselines.study.seed, "ratio")
    rows = [with_ratio(row, real, random) if row.name == first.line.name else row for row in rows]
    sets = {name: _first_budget(name, jobs) for name in comparison.transferred()}
    files = {name: [job.folder / BEST_SET for job in found] for name, found in sets.items()}
    others: list[tuple[Job, list[Row]]] = []
    for other, study in transfer_studies(comparison, overrides):
        echo(f"the sets of {', '.join(sets)} with {other.name}")
        job = make_job(stem, study)
        others.append((job, rows_of_student(other.name, job, files, local=local)))
    rows = [with_students(row, sets[row.name][0], others) if row.name in sets else row for row in rows]
    rows += [row for _, found in others for row in found]
    folder = baselines.specification.storage / "tables" / stem
    write_table(folder, rows)
    with tracked(baselines) as tracker:
        record_table(tracker, rows)
        record_rows(tracker, rows, students={found[0].student: job.study for job, found in others})
        for file in TABLE_FILES:
            keep(tracker, folder / file)
        page = record_page(tracker, folder)
    given = comparison.published.rows() if comparison.published else []
    theirs = [PublishedRow(**row.model_dump()) for row in given]
    below = [published.render_text(theirs)] if theirs else []
    lines = [f"table:          {folder / 'table.md'}", *([f"report:         {page}"] if page else [])]
    conclude(baselines, rows, *below, *lines)
    return rows


def _first_budget(line: str, jobs: Sequence[tuple[Entry, Job]]) -> list[Job]:
    """Return the jobs of a line, one a distillation, at the first of its budgets."""
    of_line = [(entry.pairs, job) for entry, job in jobs if entry.line.name == line]
    return [job for pairs, job in of_line if pairs == of_line[0][0]]


def with_students(row: Row, distilled: Job, others: Sequence[tuple[Job, Sequence[Row]]]) -> Row:
    """Return the row of a line with a note on other students: those that its set was learned for, and unseen ones.

    Each mean is given in percent of the own student's and, of each student's recall, in percent of that of all pairs.
    Rows of other budgets are returned as they are.
    """
    if row.pairs != distilled.study.method.num_pairs:
        return row
    known = [one.student for one in distilled.study.of_each_student()]
    groups: dict[str, list[Row]] = {}
    for job, found in others:
        kind = "other students that it was learned for" if job.study.student in known else "unseen students"
        groups.setdefault(kind, []).append(next(one for one in found if one.name == f"{row.name}, {one.student}"))
    notes = [row.note] if row.note else []
    for kind, scored in sorted(groups.items()):
        recall, own = fmean(one.mean["mean_recall"] for one in scored), row.mean["mean_recall"]
        of_own = f"{100 * recall / own:.0f} % of its own student's, " if own else ""
        of_all = f"{fmean(one.recovery or 0 for one in scored):.0f} % of theirs with all pairs"
        notes.append(f"{kind} ({len(scored)}): mean recall {recall:.1f}, {of_own}{of_all}")
    return replace(row, note="; ".join(notes))


def dry_run(name: str, comparison: Comparison, overrides: dict[str, Any]) -> str:
    """Return one line for each study of a comparison, which says whether it is finished."""
    lines = [comparison.note]
    for entry, job in _jobs(Path(name).stem, comparison, overrides):
        state = f"finished in {job.folder}" if job.finished else "to be run"
        lines.append(f"{entry.line.name:<32} {entry.pairs:>5} pairs, seed {entry.seed}: {state}")
    return "\n".join(lines)


def _jobs(stem: str, comparison: Comparison, overrides: dict[str, Any]) -> list[tuple[Entry, Job]]:
    """Return the studies of a comparison with their jobs, named after table, pairs and line."""
    jobs = []
    for entry in entries(comparison, overrides):
        line = "".join(letter if letter.isalnum() else "_" for letter in entry.line.name.lower())
        jobs.append((entry, make_job(f"{stem}_{entry.pairs}_{line}", entry.study)))
    return jobs
