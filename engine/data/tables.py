"""Tables of photos: the rows of CSV, JSONL and Parquet files."""

import csv
import io
import json
import os.path
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.data.peek import first_line
from engine.data.records import Record, captions_of, check_keys, image_name, text_of
from engine.data.splits import SPLIT_NAMES
from engine.io.files import decoded, parsed
from engine.io.sentences import cut, shown

Row = Mapping[str, Any]

COLUMNS = ("image", "caption", "split")
SEPARATORS = {";": "';'", "|": "'|'", "\t": "tabs"}


def read_table(path: Path, known: Sequence[str] = COLUMNS) -> list[Row]:
    """Return the rows of a table by column, in the format of its file name's suffix; values of a CSV are texts.

    ``known`` are the columns of photos, of captions and, if there is one, of splits.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: its suffix is unknown, it cannot be parsed, it has no rows, or a column is missing or misspelt.
    """
    if not os.path.isfile(path):  # that of pathlib fails for a name that is too long
        raise FileNotFoundError(f"data.table: there is no file {path}.")
    readers = {".csv": _csv_rows, ".txt": _csv_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
    if path.suffix.lower() not in readers:
        raise ValueError(f"data.table: {path} ends in {path.suffix!r}, expected .csv, .txt, .jsonl or .parquet.")
    rows = readers[path.suffix.lower()](path, known)
    if not rows:
        raise ValueError(f"{path}: there are no rows in it, expected one a caption.")
    for column in () if "split" in rows[0] else rows[0].keys() - set(known):
        if all(str(row.get(column)).strip().casefold() in SPLIT_NAMES for row in rows):
            raise ValueError(f"{path}: the column {shown(column)} holds splits, expected the name 'split' for it.")
    return rows


def read_records(path: Path, known: Sequence[str] = COLUMNS, *, folder: str = "") -> list[Record]:
    """Read and check the rows of a table; ``known`` is as in ``read_table``, and photos lie below ``folder``.

    Raises:
        FileNotFoundError: the table is missing.
        ValueError: it cannot be parsed, a column is missing, or a value is missing or not a text.
    """
    rows = read_table(path, known)
    given = "split" in known and any("split" in row for row in rows)
    records = []
    for number, row in enumerate(rows, start=1):
        where = f"{path}: row {number}"
        image, captions = image_name(row, known[0], where, folder=folder), captions_of(row, known[1], where)
        records.append(Record(f"row {number}", image, captions, text_of(row, "split", where) if given else None))
    return records


def columns(path: Path) -> set[str]:
    """Return the names of a table's columns, in small letters, from its first line; none where it is no table."""
    match path.suffix.lower():
        case ".csv" | ".txt":
            names: Iterable[str] = re.split(r"[,;|\t]", first_line(path))
        case ".jsonl":
            try:
                first = json.loads(first_line(path))
            except (ValueError, RecursionError):
                first = None
            names = first if isinstance(first, dict) else ()
        case ".parquet":
            from pyarrow.parquet import ParquetFile

            try:
                with ParquetFile(path) as file:
                    names = file.schema_arrow.names
            except Exception:  # damaged files raise errors of many kinds
                names = ()
        case _:
            names = ()
    return {name.strip(' "').casefold() for name in names}


def _unparsed(path: Path, reason: object) -> ValueError:
    """Return the error of a table that cannot be parsed."""
    return ValueError(f"{path}: expected a {path.suffix} table, but it cannot be parsed ({reason}).")


def _check_columns(columns: Sequence[str], known: Sequence[str], path: Path) -> None:
    """Refuse columns of which a required one is missing, and one that is misspelt or comes twice."""
    check_keys(columns, known, path)
    if twice := [column for column in known if columns.count(column) > 1]:
        raise ValueError(f"{path}: the column {twice[0]!r} comes twice, expected once.")
    for column in known[:2]:
        if column not in columns:
            there = cut(", ".join(columns)) or "none"
            raise ValueError(f"{path}: the column {column!r} is missing; the columns there are {there}.")


def _csv_rows(path: Path, known: Sequence[str]) -> list[Row]:
    """Return the rows of a CSV in UTF-8 whose values are separated by commas; blank lines are no rows."""
    try:
        text = decoded(path.read_bytes())
    except ValueError as error:
        raise _unparsed(path, error) from error
    if not text.strip():
        raise _unparsed(path, "it is empty")
    lines = list(io.StringIO(text, newline=""))
    numbered = _parsed(lines, path)
    header = next(numbered, (0, [], ""))[1]
    if not {*known[:2]} <= {*header}:
        _check_separator("".join(lines[:1]), path)
    _check_columns(header, known, path)
    rows: list[Row] = []
    for number, (line, values, raw) in enumerate(numbered, start=1):
        if len(values) != len(header):
            expected = (
                f"{len(header)}: {cut(', '.join(header))}{_right(values, header, known[1]) or f'; got {cut(raw)}'}"
            )
            raise _unparsed(path, f"row {number} (line {line}) has {len(values)} values, expected {expected}")
        rows.append({column: value or None for column, value in zip(header, values, strict=True)})
    return rows


def _parsed(lines: list[str], path: Path) -> Iterator[tuple[int, list[str], str]]:
    """Yield the values of each row of a CSV, with its first line and its text."""
    reader = csv.reader(iter(lines), strict=True, skipinitialspace=True)
    while True:
        start = reader.line_num
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raw = lines[start].rstrip("\r\n")
            right = f"; the line would be {cut(_line(raw.split(',')))}" if "expected after" in str(error) else ""
            expected = f"each quote inside of a value doubled, and quotes around it{right or f'; got {cut(raw)}'}"
            reason = f"line {start + 1} has a quote that does not end its value, expected {expected}"
            raise _unparsed(path, reason) from error
        if values:
            yield start + 1, values, lines[start].rstrip("\r\n")


def _check_separator(header: str, path: Path) -> None:
    """Refuse a header that another separator than the comma parts into more columns."""
    for separator, name in SEPARATORS.items():
        columns = next(csv.reader([header[:1000]], delimiter=separator), [])
        if len(columns) > len(header.split(",")):
            right = _line([column.strip() for column in columns])
            raise ValueError(
                f"{path}: its columns are separated by {name}, expected commas, and quotes around a caption that holds "
                f"one; line 1 would be {cut(right)}."
            )


def _right(values: Sequence[str], header: Sequence[str], caption: str) -> str:
    """Return the hint at a line whose caption holds the surplus commas; nothing where there are too few values."""
    surplus, at = len(values) - len(header), header.index(caption)
    if surplus < 0:
        return ""
    end = at + 1 + surplus * any(values[len(header) :])  # or the line ends in commas alone
    right = [*values[:at], ", ".join(map(str.strip, values[at:end])), *values[end:]][: len(header)]
    return f"; the line would be {cut(_line(right))}"


def _line(values: Sequence[str]) -> str:
    """Return values as a line of a CSV, without its end."""
    written = io.StringIO()
    csv.writer(written, lineterminator="").writerow(values)
    return written.getvalue()


def _jsonl_rows(path: Path, known: Sequence[str]) -> list[Row]:
    """Return the objects of a JSONL file; blank lines are no rows."""
    rows: list[Row] = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if line.strip():
            try:
                row = parsed(line)
            except ValueError as error:
                raise _unparsed(path, f"line {number}: {error}") from error
            if not isinstance(row, dict):
                raise _unparsed(path, f"line {number} is {shown(row)}, expected an object")
            rows.append(row)
    if rows:
        _check_columns(list(dict.fromkeys(key for row in rows for key in row)), known, path)
    return rows


def _parquet_rows(path: Path, known: Sequence[str]) -> list[Row]:
    """Return the rows of a Parquet file, of other columns than known ones only those of texts."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:  # polars ends the process at some damaged files
            types = {name: file.schema_arrow.field(index).type for index, name in enumerate(file.schema_arrow.names)}
            texts = (pyarrow.string(), pyarrow.large_string(), pyarrow.string_view())
            rows = file.read(columns=[name for name, kind in types.items() if name in known or kind in texts])
            found: list[Row] = rows.to_pylist()
    except Exception as error:  # damaged files raise errors of many kinds
        raise _unparsed(path, cut(str(error))) from error
    _check_columns(list(types), known, path)
    return found
