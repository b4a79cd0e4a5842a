"""The protocol of trackers, which record parameters, metrics and artifacts of a study."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, SupportsFloat, runtime_checkable

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Point(NamedTuple):
    """Numbers of one step by their names, and when it ended, in seconds since 1970."""

    step: int
    time: float
    values: Mapping[str, SupportsFloat]


class Data(NamedTuple):
    """A data set: its name, a digest of what it holds, where it comes from, and counts by their names."""

    name: str
    digest: str
    source: str
    counts: Mapping[str, int]


@runtime_checkable
class Tracker(Protocol):
    """One run of a study: the study itself, or one of its children."""

    def child(self, name: str, key: str) -> "Tracker":
        """Open the run called ``name`` below this one; the same ``key`` finds the same run again."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Record settings; a nested mapping becomes dotted names."""

    def tags(self, values: Mapping[str, Any]) -> None:
        """Record labels that, unlike parameters, may change later; a nested mapping becomes dotted names."""

    def metrics(self, values: Mapping[str, SupportsFloat], step: int) -> None:
        """Record numbers of one step without waiting for their delivery."""

    def curve(self, points: Sequence[Point]) -> None:
        """Record numbers of many steps at once, each at its own time, without waiting for their delivery."""

    def data(self, data: Data) -> None:
        """Record the data set that the run, and each of its children opened later, learns from."""

    def artifact(self, path: Path) -> None:
        """Keep a copy of a file or folder; ``path`` may change or be deleted when the call has returned."""

    def table(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Record a table that people can look at; the same name replaces it."""

    def finish(self, status: Status) -> None:
        """End the run."""
