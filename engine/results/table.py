"""Result tables: one row a set and protocol, as terminal text, Markdown, JSON and CSV."""

import csv
import math
import statistics
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.io.files import atomic_path, read_json, write_json
from engine.io.storage import Location
from engine.rng import draw_seed

FORMAT_VERSION = 1
METRICS = {
    "IR1": "IR@1",
    "IR5": "IR@5",
    "IR10": "IR@10",
    "TR1": "TR@1",
    "TR5": "TR@5",
    "TR10": "TR@10",
    "mean_recall": "mean",
}
COSTS = ("time", "memory", "size")
NAME_WIDTH = 26
WIDTH = 120
MISSING = "-"


@dataclass(frozen=True, kw_only=True)
class Row:
    """The score of one set under one protocol; recalls in percent, ± over student seeds (0: their number is not known).

    ``full`` marks training on all real pairs, against which ``recovery`` (percent of mean recall) is taken;
    ``robustness`` also looks at random pairs (``robustness_score``).
    ``learning_rate`` is the student's, ``seconds`` the time to learn or choose the set, ``size`` its bytes, ``memory``
    the peak of the process (of the GPU, where there is one) that learned it, in bytes. ``by_student`` keeps each metric
    of every student, in percent, as far as these are known.
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
    note: str = ""
    by_student: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = [key for key in (*self.mean, *self.std, *self.by_student) if key not in METRICS]
        if unknown:
            raise ValueError(f"row {self.name!r}: got the metric {unknown[0]!r}, expected one of {', '.join(METRICS)}.")

    @classmethod
    def of_seeds(cls, name: str, pairs: int, scores: Sequence[Mapping[str, float]], **rest: Any) -> "Row":
        """Make a row of the scores of each student seed; the standard deviation divides by n - 1, one seed has none.

        Other keys than the metrics of a table are left out.
        """
        assert scores, "a row needs the scores of at least one seed"
        columns = {key: [float(score[key]) for score in scores] for key in METRICS if key in scores[0]}
        mean = {key: statistics.fmean(values) for key, values in columns.items()}
        std = {key: statistics.stdev(values) for key, values in columns.items() if len(values) > 1}
        return cls(name=name, pairs=pairs, mean=mean, std=std, seeds=len(scores), by_student=columns, **rest)


def with_recovery(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with ``recovery`` and ``robustness`` filled in, as far as their protocol has what they need.

    Recovery is taken against the first full-data row, robustness also against the ``random`` row of as many pairs.
    """
    scored = [row for row in rows if "mean_recall" in row.mean]
    full = {row.protocol: row.mean["mean_recall"] for row in reversed(scored) if row.full}
    chance = {(row.protocol, row.pairs): row.mean["mean_recall"] for row in scored if row.name == "random"}
    return [
        _compared(row, full.get(row.protocol), chance.get((row.protocol, row.pairs))) if row in scored else row
        for row in rows
    ]


def _compared(row: Row, full: float | None, chance: float | None) -> Row:
    """Return ``row`` compared with the mean recall of all pairs and of random ones."""
    if not full:
        return row
    recall = row.mean["mean_recall"]
    compared = replace(row, recovery=100 * recall / full)
    if chance is None or row.full:
        return compared
    return replace(compared, robustness=robustness_score(recall, full=full, chance=chance))


def robustness_score(recall: float, *, full: float, chance: float, weight: float = 0.5) -> float:
    """Return, in percent, how far a set is above random pairs and how close to all pairs; recalls in percent.

    (e^a - e^-1) / (e - e^-1) with a = weight (recall - chance) - (1 - weight) (full - recall), recalls as shares of 1.

    References:
        The score of DD-Ranking, arXiv 2505.13300; there accuracies of students with hard and with soft labels enter,
        here one mean recall under one protocol, that of the table.
    """
    gained, missing = (recall - chance) / 100, (full - recall) / 100
    exponent = weight * gained - (1 - weight) * missing
    return 100 * (math.exp(exponent) - math.exp(-1)) / (math.e - math.exp(-1))


def with_ratio(row: Row, real: Sequence[Row], generator: torch.Generator) -> Row:
    """Return ``row`` with a note of its TR@1 over that of the best of the largest coresets of its protocol in ``real``.

    It stays as it is where the students of either are not known, and where one of the coreset's finds nothing.
    """
    rivals = [one for one in real if not one.full and one.protocol == row.protocol and one.by_student.get("TR1")]
    best = max(rivals, key=lambda one: (one.pairs, one.mean["TR1"]), default=None)
    if best is None or min(best.by_student["TR1"]) <= 0 or not row.by_student.get("TR1"):
        return row
    ratio, low, high = ratio_interval(row.by_student["TR1"], best.by_student["TR1"], generator)
    told = (
        f"TR@1 is {ratio:.2f} times that of {best.pairs} pairs of {best.name} "
        f"(95 % bootstrap interval over students {low:.2f} to {high:.2f})"
    )
    return replace(row, note="; ".join(filter(None, [row.note, told])))


def ratio_interval(
    a: Sequence[float], b: Sequence[float], generator: torch.Generator, *, draws: int = 10_000
) -> tuple[float, float, float]:
    """Return mean(a) / mean(b) with the ends of its 95 % percentile bootstrap interval.

    The seeds of ``a`` and of ``b`` are drawn again with replacement, independently of each other.

    Raises:
        ValueError: a side is empty, or ``b`` holds a number that is not above zero.
    """
    top, bottom = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if top.size == 0 or bottom.size == 0 or not bool(np.all(bottom > 0)):
        raise ValueError(f"ratio: got {list(a)} over {list(b)}, expected numbers on both sides, positive ones below.")
    random = np.random.default_rng(draw_seed(generator))
    ratios = _drawn_means(top, draws, random) / _drawn_means(bottom, draws, random)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(top.mean() / bottom.mean()), float(low), float(high)


def _drawn_means(values: np.ndarray, draws: int, random: np.random.Generator) -> np.ndarray:
    return values[random.integers(0, values.size, (draws, values.size))].mean(axis=1)


def render_text(rows: Sequence[Row]) -> str:
    """Return an aligned table of at most 120 columns, with protocols and notes below."""
    header = ["set", "pairs", *METRICS.values(), "rec. %"]
    body = [_text_cells(row) for row in rows]
    columns = [_column(title, cells) for title, *cells in zip(header, *body, strict=True)]
    columns[0] = [cell.ljust(max(map(len, columns[0]))) for cell in map(str.lstrip, columns[0])]
    gap = 2 if sum(len(column[0]) for column in columns) + 2 * (len(columns) - 1) <= WIDTH else 1
    lines = [(" " * gap).join(cells).rstrip() for cells in zip(*columns, strict=True)]
    rule = "─" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:], *_wrapped_remarks(rows)]) + "\n"


def _column(title: str, cells: Sequence[str]) -> list[str]:
    """Return the cells padded to one width, numbers on the right with their ± below each other."""
    parts = [cell.partition("±") for cell in cells]
    left = max((len(number) for number, _, _ in parts), default=0)
    right = max((len(sign + spread) for _, sign, spread in parts), default=0)
    padded = [number.rjust(left) + (sign + spread).ljust(right) for number, sign, spread in parts]
    width = max(left + right, len(title))
    return [cell.rjust(width) for cell in (title, *padded)]


def _text_cells(row: Row) -> list[str]:
    name = row.name if len(row.name) <= NAME_WIDTH else f"{row.name[: NAME_WIDTH - 1]}…"
    return [name, str(row.pairs), *(_score(row, key) for key in METRICS), _decimal(row.recovery)]


def _score(row: Row, key: str, separator: str = "±") -> str:
    if key not in row.mean or not math.isfinite(row.mean[key]):
        return MISSING
    spread = row.std.get(key, math.nan)
    return f"{row.mean[key]:.1f}" + (f"{separator}{spread:.1f}" if math.isfinite(spread) else "")


def _decimal(value: float | None) -> str:
    return MISSING if value is None else f"{value:.1f}"


def _wrapped_remarks(rows: Sequence[Row]) -> list[str]:
    return [line for remark in _remarks(rows) for line in textwrap.wrap(remark, WIDTH, subsequent_indent="  ")]


def _remarks(rows: Sequence[Row]) -> list[str]:
    """Return one sentence a protocol, naming its rows where there are several, and one a note."""
    protocols = list(dict.fromkeys(row.protocol for row in rows if row.protocol))
    labels = [
        f"Protocol: {protocol}" if len(protocols) == 1 else f"Protocol of {_names(rows, protocol)}: {protocol}"
        for protocol in protocols
    ]
    counts = sorted({row.seeds for row in rows if row.std and row.seeds})
    spread = [f"± is the standard deviation over {' or '.join(map(str, counts))} student seeds."] if counts else []
    shared = Counter(row.name for row in rows)
    noted = [(f"{row.name}, {row.pairs} pairs" if shared[row.name] > 1 else row.name, row.note) for row in rows]
    return [*labels, *spread, *(f"{title}: {note}" for title, note in noted if note)]


def _names(rows: Sequence[Row], protocol: str) -> str:
    return ", ".join(row.name for row in rows if row.protocol == protocol)


def render_markdown(rows: Sequence[Row]) -> str:
    """Return a Markdown table; among small sets with the same number of pairs, the best value of a column is bold."""
    header = ["set", "pairs", *METRICS.values(), "recovery %", "robustness", "seeds", "student lr", *COSTS]
    best = _best(rows)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *(_markdown_cells(row, best) for row in rows)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return "\n\n".join([table, *map(_escaped, _remarks(rows))]) + "\n"


def _best(rows: Sequence[Row]) -> dict[tuple[int, str, str], str]:
    """Return the largest printed value by pairs, protocol and metric, where at least two small sets compete."""
    small = [row for row in rows if not row.full]
    rivals = Counter((row.pairs, row.protocol) for row in small)
    best: dict[tuple[int, str, str], str] = {}
    for row in sorted(small, key=lambda row: row.pairs):
        for key, value in row.mean.items():
            group = (row.pairs, row.protocol, key)
            if rivals[group[:2]] > 1 and value > float(best.get(group, "-inf")):
                best[group] = f"{value:.1f}"
    return best


def _markdown_cells(row: Row, best: Mapping[tuple[int, str, str], str]) -> list[str]:
    scores = [_bold(row, key, best.get((row.pairs, row.protocol, key))) for key in METRICS]
    rate = MISSING if row.learning_rate is None else f"{row.learning_rate:g}"
    compared = [_decimal(row.recovery), _decimal(row.robustness)]
    cost = [_duration(row.seconds), _size(row.memory), _size(row.size)]
    return [_escaped(row.name), str(row.pairs), *scores, *compared, str(row.seeds), rate, *cost]


def _bold(row: Row, key: str, best: str | None) -> str:
    text = _score(row, key, separator=" ± ")
    return f"**{text}**" if not row.full and best is not None and text.split()[0] == best else text


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return MISSING
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(size: int | None) -> str:
    if size is None:
        return MISSING
    return f"{size / 1e3:.0f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"


def write(folder: Location, rows: Sequence[Row]) -> None:
    """Write ``table.md``, ``table.csv`` and, last, ``table.json`` into ``folder``, each whole or not at all."""
    with atomic_path(folder / "table.md") as temporary:
        temporary.write_text(render_markdown(rows), encoding="utf-8")
    with atomic_path(folder / "table.csv") as temporary:
        _write_csv(temporary, rows)
    write_json(folder / "table.json", {"format_version": FORMAT_VERSION, "rows": [_stored(row) for row in rows]})


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    plain = [item.name for item in fields(Row) if item.name not in ("mean", "std", "by_student")]
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow([*plain, *METRICS, *(f"{key}_std" for key in METRICS)])
        for row in rows:
            values = [getattr(row, name) for name in plain]
            writer.writerow([*values, *map(row.mean.get, METRICS), *map(row.std.get, METRICS)])


def _stored(row: Row) -> dict[str, Any]:
    students = {key: list(values) for key, values in row.by_student.items() if all(map(math.isfinite, values))}
    return asdict(replace(row, mean=_finite(row.mean), std=_finite(row.std), by_student=students))


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """Return the numbers JSON can hold; one that is missing is shown as a dash."""
    return {key: float(value) for key, value in values.items() if math.isfinite(value)}


def read(path: Location) -> list[Row]:
    """Read the rows of a ``table.json``, or of the folder that holds one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a table of this format.
    """
    file = path if path.suffix == ".json" else path / "table.json"
    if not file.exists():
        raise FileNotFoundError(f"{file}: expected a result table, but there is no such file.")
    stored = read_json(file)
    version = stored.get("format_version") if isinstance(stored, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(f"{file}: got format_version {version!r}, expected {FORMAT_VERSION}.")
    if not isinstance(stored.get("rows"), list):
        raise ValueError(f"{file}: got no list 'rows', expected the rows of a result table.")
    return [_loaded(file, number, row) for number, row in enumerate(stored["rows"])]


def _loaded(file: Location, number: int, stored: Any) -> Row:
    try:
        row = Row(**stored)
        if not (isinstance(row.name, str) and isinstance(row.pairs, int) and isinstance(row.seeds, int)):
            raise TypeError("name must be text, pairs and seeds whole numbers")
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{file}: rows[{number}] is not a row of a result table ({error}).") from error
    return row
