"""The trials of a search as a table for the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from engine.results.render import MISSING, RULE, duration


@dataclass(frozen=True)
class TrialLine:
    """State of one trial: steps done, its newest and its best recall on val in percent, values tried, and seconds."""

    name: str
    state: str = "waiting"
    outer_step: int = 0
    recall: float | None = None
    best: float | None = None
    searched: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


def trial_table(lines: Sequence[TrialLine], *, outer_steps: int, metric: str) -> Table:
    """Return a table of trials: those that run first, then the best of those that ended.

    Searched keys stand without ``method.``; a table that is too high for its window loses its end.
    """
    table = Table(box=RULE, show_edge=False, pad_edge=False)
    for title in ("trial", "state"):
        table.add_column(title, no_wrap=True)
    for title in ("outer step", metric, "best", "time"):
        table.add_column(title, justify="right", no_wrap=True)
    searched = any(line.searched for line in lines)
    if searched:
        table.add_column("searched", overflow="fold")
    for line in sorted(lines, key=_rank):
        recalls = [MISSING if value is None else f"{value:.1f}" for value in (line.recall, line.best)]
        tried = [", ".join(f"{key.removeprefix('method.')} {_short(value)}" for key, value in line.searched.items())]
        step = f"{line.outer_step}/{outer_steps}"
        table.add_row(line.name, line.state, step, *recalls, duration(line.seconds), *(tried if searched else []))
    return table


def _rank(line: TrialLine) -> tuple[int, float]:
    """Return where a line stands: trials that run, those with a set by their best recall, and the others."""
    if line.state == "running":
        return 0, 0.0
    return (2, 0.0) if line.best is None else (1, -line.best)


def _short(value: Any) -> str:
    """Return a searched value as it is typed, with numbers of three digits."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_short(one)}" for key, one in value.items()) + "}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
