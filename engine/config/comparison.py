"""A comparison: one table of several studies under one protocol, described by one YAML of ``tune_spaces/tables``."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from engine.config.errors import issues
from engine.config.load import ConfigError, Study, assign, load
from engine.config.schema import PublishedTable
from engine.config.spaces import SPACES, parse_yaml
from engine.config.strict import Strict
from engine.ranges import Count

Overrides = dict[str, Any]


class Line(Strict):
    """One line of the table a budget: its name, what it changes, and how often the whole distillation is repeated.

    ``budgets`` changes more for one number of pairs; ``pairs`` None are those of the whole table.
    """

    name: Annotated[str, Field(min_length=1)]
    set: Overrides = Field(default_factory=dict)
    budgets: dict[int, Overrides] = Field(default_factory=dict)
    pairs: list[Count] | None = None
    replicates: Count = 1


class OtherStudent(Strict):
    """Another student for the first line's set of the first budget: what of the study it changes."""

    name: Annotated[str, Field(min_length=1)]
    set: Overrides


class Comparison(Strict):
    """The lines of a table; ``space`` and ``set`` are what all of them share, coresets and full data included.

    ``transfer`` scores the first line's first set with other students, beside random pairs and all pairs under each.
    ``published`` is a table of other people's, printed below ours and never among them.
    """

    note: str = ""
    space: Annotated[str, Field(min_length=1)]
    set: Overrides = Field(default_factory=dict)
    pairs: list[Count] = Field(min_length=1)
    coreset_pairs: list[Count]
    lines: list[Line] = Field(min_length=1)
    transfer: list[OtherStudent] = Field(default_factory=list)
    published: PublishedTable | None = None


@dataclass(frozen=True)
class Entry:
    """One study of a comparison: a line at one budget and seed."""

    line: Line
    pairs: int
    seed: int
    study: Study


def read_comparison(name: str) -> Comparison:
    """Read a table of ``tune_spaces/tables`` by its name, or a YAML file by its path.

    Raises:
        ConfigError: it is not there, or something in it is wrong.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else SPACES / "tables" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in (SPACES / "tables").glob("*.yaml")))
        raise ConfigError(f"command line: the table is {name!r}, expected the path of a YAML file or one of {known}.")
    tree = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    try:
        return Comparison.model_validate(tree)
    except ValidationError as error:
        found = issues(error, Comparison, tree if isinstance(tree, dict) else {})
        raise ConfigError(f"{path}: {found[0].sentence()}.") from error


def baseline_study(comparison: Comparison, overrides: Overrides) -> Study:
    """Return the study whose coresets and full-data students all lines are held against.

    Raises:
        ConfigError: an override does not fit.
    """
    return assign(
        load(comparison.space),
        {**comparison.set, **overrides, "baselines.pairs": comparison.coreset_pairs, "search": {}},
    )


def transfer_studies(comparison: Comparison, overrides: Overrides) -> Iterator[tuple[OtherStudent, Study]]:
    """Yield the other students with the studies whose protocol scores the set with them."""
    shared = {**comparison.set, **overrides, "baselines.pairs": comparison.pairs[:1], "search": {}}
    for other in comparison.transfer:
        few = {"baselines.coresets": ["random"], "baselines.full_seeds": 1}
        yield other, assign(load(comparison.space), {**shared, **few, **other.set})


def entries(comparison: Comparison, overrides: Overrides) -> Iterator[Entry]:
    """Yield the studies of all lines, budget by budget; a replicate is the same study with the next seed.

    Raises:
        ConfigError: an override does not fit.
    """
    space = load(comparison.space)
    for pairs in comparison.pairs:
        for line in comparison.lines:
            if pairs not in (line.pairs or comparison.pairs):
                continue
            changes = {**comparison.set, **line.set, **line.budgets.get(pairs, {}), **overrides, **_NO_BASELINES}
            method = changes.pop("method", None)
            changes |= {"method.num_pairs": pairs} if method is None else {"method": {**method, "num_pairs": pairs}}
            for seed in range(space.seed, space.seed + line.replicates):
                yield Entry(line, pairs, seed, assign(space, {**changes, "seed": seed}))


_NO_BASELINES: Overrides = {"baselines.coresets": [], "baselines.full_seeds": 0, "search": {}}
