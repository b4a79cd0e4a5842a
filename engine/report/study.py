"""A study as its folder holds it, finished or not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from engine.config.errors import ConfigError
from engine.config.published import published_in
from engine.config.search import Domain, DomainError, parse
from engine.config.spaces import parse_yaml
from engine.io.files import decoded, read_json
from engine.io.storage import Location, matching, read_whole
from engine.results.audit import Audit, read_audit
from engine.results.files import read_students, read_table
from engine.results.history import BEST_SET, FRAMES, HISTORY, History, read_history
from engine.results.published import PublishedRow
from engine.results.row import Row
from engine.tracking.time_lapse import frames

CONFIGURATION, TABLE = "configuration.yaml", "table.json"
EXPERTS = "experts.json"
"""Learning curves: for each expert, its loss and its recall on val by epoch."""
Curve = Mapping[int, Mapping[str, float]]


@dataclass(frozen=True)
class Trial:
    """A trial with its history and the frames of its time-lapse, by outer step."""

    folder: Location
    history: History
    frames: Sequence[tuple[int, Location]] = ()

    @property
    def name(self) -> str:
        """The name of the folder with a blank: ``trial 4``."""
        return self.folder.name.replace("_", " ")

    @property
    def best(self) -> float | None:
        """The metric of the trial's set on val; None before the first validation."""
        return self.history.validations[-1].get("best") if self.history.validations else None

    @property
    def outer_steps(self) -> int:
        """The outer steps up to the last validation."""
        return int(self.history.validations[-1]["outer_step"]) if self.history.validations else 0

    @property
    def seconds(self) -> float:
        """The time in outer steps, without validations."""
        ends = [0.0, *(one["outer_step"] for one in self.history.validations)]
        each = (one.get("seconds_per_outer_step", 0.0) for one in self.history.validations)
        return sum((end - start) * per for start, end, per in zip(ends[:-1], ends[1:], each, strict=True))


@dataclass(frozen=True, kw_only=True)
class Study:
    """What the folder of a study or of a comparison holds; an unfinished study has no rows.

    ``students`` are rows of its set under other students; ``configuration`` is the content of its file, of any version.
    ``written`` is when its newest file was written.
    """

    folder: Location
    rows: Sequence[Row] = ()
    students: Sequence[Row] = ()
    published: Sequence[PublishedRow] = ()
    configuration: Mapping[str, Any] = field(default_factory=dict)
    yaml: str = ""
    trials: Sequence[Trial] = ()
    audit: Audit | None = None
    experts: Sequence[Curve] = ()
    written: datetime

    @property
    def name(self) -> str:
        """The name of the folder without the key behind it."""
        return self.folder.name.rpartition("-")[0] or self.folder.name

    @property
    def best(self) -> Trial | None:
        """The trial with the best set so far, the first of equals."""
        tried = [trial for trial in self.trials if trial.best is not None]
        return max(tried, key=lambda trial: trial.best or 0.0, default=None)

    @property
    def set_file(self) -> Location | None:
        """The file of the study's set, or of the best trial's while the study is not finished."""
        files = [self.folder / BEST_SET, *([self.best.folder / BEST_SET] if self.best else [])]
        return next((file for file in files if file.is_file()), None)

    @property
    def domains(self) -> dict[str, Domain]:
        """The domains that were searched, by their keys; those that cannot be read any more are left out."""
        found = {}
        for key, given in (self.get("search") or {}).items():
            try:
                found[key] = parse(given)
            except DomainError:
                continue
        return found

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value at a dotted key of the configuration."""
        tree: Any = self.configuration
        for part in key.split("."):
            tree = tree.get(part) if isinstance(tree, Mapping) else None
        return default if tree is None else tree


def read_study(folder: Location) -> Study:
    """Read a folder that holds a configuration, a table, or both.

    Raises:
        FileNotFoundError: it holds neither.
        ValueError: a file in it is damaged; the message names it.
    """
    given, table = folder / CONFIGURATION, folder / TABLE
    found = [file for file in (given, table) if file.is_file()]
    if not found:
        missing = f"it has no {CONFIGURATION} and no {TABLE}"
        raise FileNotFoundError(f"{folder}: expected the folder of a study, but {missing}.")
    text = decoded(read_whole(given)) if given in found else ""
    tree = parse_yaml(text, str(given)) or {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{given}: the file holds {tree!r:.80}, expected a mapping with data, student and method.")
    places = [file.parent for file in matching(folder, f"trials/*/{HISTORY}")]
    places.sort(key=lambda place: (len(place.name), place.name))  # trial_10 follows trial_9
    files = [*found, *(place / HISTORY for place in places)]
    return Study(
        folder=folder,
        rows=read_table(table) if table in found else (),
        students=read_students(folder),
        published=[PublishedRow(**row.model_dump()) for row in published_in(given)],
        configuration=tree,
        yaml=text,
        trials=[Trial(place, read_history(place / HISTORY), frames(place / FRAMES)) for place in places],
        audit=read_audit(folder),
        experts=_curves(folder / EXPERTS),
        written=datetime.fromtimestamp(max(file.stat().st_mtime for file in files), UTC),
    )


def _curves(file: Location) -> Sequence[Curve]:
    """Return the learning curves in a file; none without it."""
    if not file.is_file():
        return []
    try:
        return TypeAdapter(list[dict[int, dict[str, float]]]).validate_python(read_json(file))
    except ValidationError as error:
        raise ValueError(f"{file}: expected a list with the numbers of each expert by epoch.") from error


def studies_in(storage: Location, *, name: str | None = None) -> list[Study]:
    """Read the studies of space ``name`` (None: all, and comparisons) in a storage folder, the last written one last.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a file of one is damaged.
    """
    folder = storage / "studies"
    files = [*matching(folder, f"{name or '*'}-*/{CONFIGURATION}"), *matching(folder, f"{name or '*'}-*/{TABLE}")]
    if name is None:
        files += matching(storage / "tables", f"*/{TABLE}")
    folders = sorted({file.parent for file in files}, key=str)
    if not folders:
        raise FileNotFoundError(f"{folder}: no study of {name or 'any space'} is here.")
    return sorted(map(read_study, folders), key=lambda study: study.written)
