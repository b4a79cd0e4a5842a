"""Files of results: table.md, table.csv and table.json, students.json beside them, and the name of the report."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from engine.io.files import atomic_path, read_json, write_json
from engine.io.storage import Location
from engine.results.render import render_markdown
from engine.results.row import METRICS, Provenance, Row

TABLE_FILES = ("table.md", "table.csv", "table.json")
"""The files of a table; the last one ends a study."""
REPORT = "report.html"
STUDENTS = "students.json"
FORMAT_VERSION = 2
"""Version 1 held no provenance, and the students of all distillations in one list."""


def write_table(folder: Location, rows: Sequence[Row]) -> None:
    """Write ``table.md``, ``table.csv`` and, last, ``table.json`` into ``folder``, each whole or not at all.

    Numbers that are not finite are left out of ``table.json``.
    """
    with atomic_path(folder / "table.md") as temporary:
        temporary.write_text(render_markdown(rows), encoding="utf-8")
    columns = flat(Row(name="", pairs=0, mean={}))
    with atomic_path(folder / "table.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns)
        writer.writeheader()
        writer.writerows(map(flat, rows))
    write_json(folder / "table.json", document(rows))


def write_students(folder: Location, rows: Sequence[Row]) -> None:
    """Keep rows of a study's set under other students beside its table, those that are there already among them.

    A row of the same name and pairs is replaced.
    """
    found = {(row.name, row.pairs): row for row in [*read_students(folder), *rows]}
    write_json(folder / STUDENTS, document([*found.values()]))


def read_students(folder: Location) -> list[Row]:
    """Read what ``write_students`` kept; nothing where there is no such file.

    Raises:
        ValueError: The file is not a result table of a known format.
    """
    return read_table(folder / STUDENTS) if (folder / STUDENTS).is_file() else []


def document(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the content of ``table.json``, without the numbers that JSON cannot hold; tables show a dash for them."""
    finite = []
    for row in rows:
        mean = {key: float(value) for key, value in row.mean.items() if math.isfinite(value)}
        std = {key: float(value) for key, value in row.std.items() if math.isfinite(value)}
        students = {key: values for key, values in row.by_student.items() if key in mean}
        finite.append(asdict(replace(row, mean=mean, std=std, by_student=students)))
    return {"format_version": FORMAT_VERSION, "rows": finite}


def flat(row: Row) -> dict[str, Any]:
    """Return a row as one line of a CSV file, without the single students; distinct provenances are separated by /."""
    flat = asdict(row)
    for key in ("mean", "std", "by_student", "made_by"):
        del flat[key]
    for key in asdict(Provenance()):
        texts = []
        for value in (getattr(one, key) for one in row.made_by):
            items = [f"{name} {item}" for name, item in value.items()] if isinstance(value, Mapping) else [value or ""]
            texts.append(", ".join(items))
        flat[key] = " / ".join(dict.fromkeys(texts))
    flat |= {key: row.mean.get(key) for key in METRICS}
    return flat | {f"{key}_std": row.std.get(key) for key in METRICS}


def read_table(path: Location) -> list[Row]:
    """Read the rows of a ``table.json``, or of the folder that holds one.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a result table of a known format.
    """
    file = path if path.suffix == ".json" else path / "table.json"
    if not file.exists():
        raise FileNotFoundError(f"{file}: expected a result table, but there is no such file.")
    stored = read_json(file)
    version = stored.get("format_version") if isinstance(stored, dict) else None
    if version not in (1, FORMAT_VERSION):
        raise ValueError(f"{file}: got format_version {version!r}, expected 1 or {FORMAT_VERSION}.")
    if not isinstance(stored.get("rows"), list):
        raise ValueError(f"{file}: got no list 'rows', expected the rows of a result table.")
    return [_loaded(file, number, row, version) for number, row in enumerate(stored["rows"])]


def _loaded(file: Location, number: int, stored: Any, version: int) -> Row:
    """Return a stored row; one of version 1 has no provenance, and ``seeds`` students of each distillation in a row."""
    try:
        students = stored.get("by_student", {})
        if version == 1:
            size = max(stored.get("seeds", 1), 1)
            students = {k: [v[start : start + size] for start in range(0, len(v), size)] for k, v in students.items()}
        made_by = [Provenance(**one) for one in stored.get("made_by", [{}])]
        row = Row(**{**stored, "by_student": students, "made_by": made_by})
        if not (isinstance(row.name, str) and isinstance(row.pairs, int) and isinstance(row.seeds, int)):
            raise TypeError("name must be text, pairs and seeds whole numbers")
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{file}: rows[{number}] is not a row of a result table ({error}).") from error
    return row
