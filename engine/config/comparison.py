"""Comparisons: several studies under one protocol in one table, described by one YAML of ``tune_spaces/tables``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from engine.config.errors import ConfigError, issues
from engine.config.load import change, load, resolve
from engine.config.published import PublishedTable
from engine.config.schema import Resolved
from engine.config.spaces import parse_yaml, read_space, tables
from engine.config.strict import Strict, require
from engine.io.sentences import shown
from engine.ranges import Count
from engine.results.row import OWN

Overrides = dict[str, Any]

_FEW_BASELINES: Overrides = {"baselines.coresets": ["random"], "baselines.options": {}, "baselines.full_seeds": 1}


class Line(Strict):
    """A line of the table for each budget: its name, its changes of the space, and its number of distillations.

    ``budgets`` has further changes for one number of pairs; ``pairs`` None: the budgets of the table.
    """

    name: Annotated[str, Field(min_length=1)]
    set: Overrides = Field(default_factory=dict)
    budgets: dict[int, Overrides] = Field(default_factory=dict)
    pairs: list[Count] | None = None
    replicates: Count = 1


class OtherStudent(Strict):
    """Another student that scores sets of the first budget, as changes of the space."""

    name: Annotated[str, Field(min_length=1)]
    set: Overrides


class Comparison(Strict):
    """A table: its lines, and the ``space`` with the changes ``set`` that all lines, coresets and full data share.

    ``transfer`` scores the sets of each of ``transfer_lines`` (None: of the first line), at the first of its budgets,
    with other students, each beside random pairs and all pairs. ``published`` rows are printed below the table.
    """

    note: str = ""
    space: Annotated[str, Field(min_length=1)]
    set: Overrides = Field(default_factory=dict)
    pairs: list[Count] = Field(min_length=1)
    coreset_pairs: list[Count]
    lines: list[Line] = Field(min_length=1)
    transfer: list[OtherStudent] = Field(default_factory=list)
    transfer_lines: list[str] | None = None
    published: PublishedTable | None = None

    def check(self) -> None:
        known = [line.name for line in self.lines if self.pairs[0] in (line.pairs or self.pairs)]
        for name in self.transfer_lines or []:
            require(name in known, "transfer_lines", value=name,
                     expected=f"names of lines with {self.pairs[0]} pairs, {', '.join(known)}")  # fmt: skip

    def transferred(self) -> list[str]:
        """Return the names of the lines whose sets are scored with other students."""
        return [self.lines[0].name] if self.transfer_lines is None else self.transfer_lines


@dataclass(frozen=True)
class Entry:
    """One study of a comparison: a line at one budget and seed."""

    line: Line
    pairs: int
    seed: int
    study: Resolved


def read_comparison(name: str) -> Comparison:
    """Read a table of ``tune_spaces/tables`` by its name, or a YAML file by its path.

    Raises:
        ConfigError: it does not exist, or something in it is wrong.
    """
    shipped = tables()
    path = Path(name) if name.endswith((".yaml", ".yml")) else shipped.get(name)
    if path is None or not path.is_file():
        known = ", ".join(shipped)
        raise ConfigError(f"command line: the table is {name!r}, expected the path of a YAML file or one of {known}.")
    tree = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    try:
        return Comparison.model_validate(tree)
    except ValidationError as error:
        raise ConfigError.of(str(path), issues(error, Comparison, tree)) from error


def baseline_study(comparison: Comparison, overrides: Overrides) -> Resolved:
    """Return the study of the coresets and the full-data students that all lines are compared with.

    Raises:
        ConfigError: an override does not fit.
    """
    changes = {**comparison.set, **overrides, "baselines.pairs": comparison.coreset_pairs, "search": {}}
    return resolve(change(load(comparison.space), changes, place="table"))


def transfer_studies(comparison: Comparison, overrides: Overrides) -> Iterator[tuple[OtherStudent, Resolved]]:
    """Yield the other students with the studies that score the set with them."""
    shared = {**comparison.set, **overrides, "baselines.pairs": comparison.pairs[:1], "search": {}}
    for other in comparison.transfer:
        changes = {**shared, **_FEW_BASELINES, **other.set}
        yield other, resolve(change(load(comparison.space), changes, place=f"table line {other.name!r}"))


def given_students(study: Resolved, files: Sequence[str], *, pairs: int) -> dict[str, Resolved]:
    """Return the study of each student, its own first, by names: with random pairs and all pairs as its baselines.

    Each of ``files`` is a YAML file of changes of the student, such as ``student.image: {...}``, named by its stem, and
    the study's second student by ``student 2``, and so on, as the study itself names it.

    Raises:
        ConfigError: a file cannot be read, changes something else or what does not fit, or two students have one name.
    """
    alone = {"students": [], "method.students": "drawn"}
    shared = {**_FEW_BASELINES, "baselines.pairs": [pairs], "search": {}, **alone}
    further = {number: one.student for number, one in enumerate(study.of_each_student()[1:], start=2)}
    studies = {OWN: resolve(change(study, shared, place="the own student"))}
    for file in files:
        place, changes = read_space(Path(file))
        for key in changes:
            if not (isinstance(key, str) and (key == "student" or key.startswith("student."))):
                raise ConfigError(f"{place}: it has the key {shown(key)}, expected student or keys inside of student.")
        given = resolve(change(study, {**shared, **changes}, place=place))
        name = next((f"student {number}" for number, one in further.items() if one == given.student), Path(file).stem)
        if name in studies:
            raise ConfigError(f"command line: --students names two students {name!r}, expected files of other names.")
        studies[name] = given
    return studies


def entries(comparison: Comparison, overrides: Overrides) -> Iterator[Entry]:
    """Yield the studies of all lines, ordered by budget; replicates differ in their seed.

    Raises:
        ConfigError: an override does not fit.
    """
    space = load(comparison.space)
    no_baselines = {"baselines.coresets": [], "baselines.full_seeds": 0, "search": {}}
    for pairs in comparison.pairs:
        for line in comparison.lines:
            if pairs not in (line.pairs or comparison.pairs):
                continue
            changes = {**comparison.set, **line.set, **line.budgets.get(pairs, {}), **overrides, **no_baselines}
            method = changes.pop("method", None)
            changes |= {"method.num_pairs": pairs} if method is None else {"method": {**method, "num_pairs": pairs}}
            for seed in range(space.seed, space.seed + line.replicates):
                study = change(space, {**changes, "seed": seed}, place=f"table line {line.name!r}")
                yield Entry(line, pairs, seed, resolve(study))
