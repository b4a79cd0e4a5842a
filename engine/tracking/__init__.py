"""Where parameters, metrics and artifacts of a study go."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, SupportsFloat, runtime_checkable

Status = Literal["FINISHED", "FAILED", "KILLED"]


@runtime_checkable
class Tracker(Protocol):
    """One run of a study: the study itself, or one of its children."""

    def child(self, name: str, key: str) -> "Tracker":
        """Open the run called ``name`` below this one; the same ``key`` finds the same run again."""
        ...

    def params(self, values: Mapping[str, Any]) -> None:
        """Record settings; a nested mapping becomes dotted keys."""
        ...

    def tags(self, values: Mapping[str, str]) -> None:
        """Record labels that, unlike parameters, may change later (``{"stopped": "early"}``)."""
        ...

    def metrics(self, values: Mapping[str, SupportsFloat], step: int) -> None:
        """Record numbers of one step without making the caller wait."""
        ...

    def artifact(self, path: Path) -> None:
        """Keep a copy of a file or folder; ``path`` may change or go as soon as the call returns."""
        ...

    def finish(self, status: Status) -> None:
        """End the run."""
        ...


class Untracked:
    """The choice to keep nothing: every call is accepted and forgotten."""

    def child(self, name: str, key: str) -> "Untracked":
        """Return this tracker."""
        return self

    def params(self, values: Mapping[str, Any]) -> None:
        """Forget ``values``."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Forget ``values``."""

    def metrics(self, values: Mapping[str, SupportsFloat], step: int) -> None:
        """Forget ``values``."""

    def artifact(self, path: Path) -> None:
        """Leave ``path`` where it is."""

    def finish(self, status: Status) -> None:
        """Do nothing."""
