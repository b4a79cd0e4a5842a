"""The protocol of trackers, which record parameters, metrics and artifacts of a study."""

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
        """Record settings; a nested mapping becomes dotted names."""
        ...

    def tags(self, values: Mapping[str, Any]) -> None:
        """Record labels that, unlike parameters, may change later; a nested mapping becomes dotted names."""
        ...

    def metrics(self, values: Mapping[str, SupportsFloat], step: int) -> None:
        """Record numbers of one step without waiting for their delivery."""
        ...

    def artifact(self, path: Path) -> None:
        """Keep a copy of a file or folder; ``path`` may change or be deleted when the call has returned."""
        ...

    def finish(self, status: Status) -> None:
        """End the run."""
        ...
