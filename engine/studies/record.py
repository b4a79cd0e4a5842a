"""Rows of a table in MLflow: a run each with the same metrics, so that MLflow's comparison of runs is the table."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.config.schema import Study
from engine.data.cache import array_key
from engine.io.files import digest
from engine.io.progress import echo
from engine.io.storage import Location, as_file
from engine.report.write import write_page
from engine.results.row import Row
from engine.specification import Specification
from engine.tracking import Data, Tracker


def record_table(tracker: Tracker, rows: Sequence[Row], *, name: str = "results") -> None:
    """Record rows as a table of a run: recalls in percent, seconds, bytes."""
    numbers = [row_metrics(row) for row in rows]
    keys = list(dict.fromkeys(key for one in numbers for key in one))
    columns: dict[str, Sequence[Any]] = {"set": [row.name for row in rows], "pairs": [row.pairs for row in rows]}
    rounded = {key: [None if key not in one else round(one[key], 3) for one in numbers] for key in keys}
    tracker.table(name, columns | rounded)


def record_rows(tracker: Tracker, rows: Sequence[Row], *, students: Mapping[str, Study] | None = None) -> None:
    """Record each row as a run below a run; ``students`` has the studies of other students than the study's own.

    The runs of rows have the same keys, so that a comparison of them shows the table and nothing else. A set may have
    the name of a coreset, so that what it is belongs to the key that finds its run again.
    """
    for row in rows:
        key = f"row/{digest(row.kind, row.name, str(row.pairs))}"
        record_row(tracker.child(f"{row.name}, {row.pairs} pairs", key=key), row, (students or {}).get(row.student))


def record_row(run: Tracker, row: Row, study: Study | None = None) -> None:
    """Record a row as a run, and end it; ``study`` is that of its student, where it is not that of the run above."""
    made = {"commit": row.made_by[0].commit, "device": row.made_by[0].device}
    tags = {"method": row.name, "pairs": row.pairs, "protocol": row.protocol, **made}
    tags |= {"kind": row.kind, "student": row.student}
    tags |= {} if row.unseen is None else {"unseen": str(row.unseen).lower()}
    run.tags((study_tags(study) if study else {}) | {name: value for name, value in tags.items() if value})
    run.params({"set": row.name, "pairs": row.pairs})
    run.metrics(row_metrics(row), step=0)
    run.finish("FINISHED")


def keep(tracker: Tracker, where: Location) -> None:
    """Log a file as an artifact, from a disk or an object store."""
    with as_file(where) as file:
        tracker.artifact(file)


def record_page(tracker: Tracker, folder: Location) -> Location | None:
    """Write the report of a study or a table into its folder and keep it; one that cannot be drawn ends nothing."""
    try:
        page = write_page(folder)
        keep(tracker, page)
    except Exception as error:  # the table is written already
        echo(f"The report is missing, since {type(error).__name__}: {error}")
        return None
    return page


def row_metrics(row: Row) -> dict[str, float]:
    """Return the numbers of a row by their names in MLflow: ``test/`` and the metric, and costs."""
    numbers = {f"test/{name}": value for name, value in row.mean.items()}
    numbers |= {f"test_std/{name}": value for name, value in row.std.items()}
    others = {"test/recovery": row.recovery, "seconds": row.seconds, "bytes": row.size}
    return numbers | {name: value for name, value in others.items() if value is not None}


def study_tags(study: Study) -> dict[str, object]:
    """Return what sets one study apart from others in a list of runs."""
    scope = f"image {study.student.image.train}, text {study.student.text.train}"
    return {"data set": study.data.name, "method": study.method.name, "scope": scope, "pairs": study.method.num_pairs}


def study_data(specification: Specification) -> Data:
    """Return the data set of a study, with a digest of its photos and captions in all splits."""
    splits = specification.setup(device="cpu").datasets
    parts = [part for split in splits.values() for part in (array_key(split.images), *split.captions)]
    given = specification.study.data
    counts = {f"{unit} of {name}": count for name, split in splits.items()
              for unit, count in (("photos", split.num_images), ("captions", len(split)))}  # fmt: skip
    return Data(given.name, digest("data/1", *parts), str(given.options.get("root", given.name)), counts)
