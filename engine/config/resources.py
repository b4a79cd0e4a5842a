"""The section ``resources``: processors and shares of GPUs of each kind of task."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from engine.config.strict import Strict, require
from engine.ranges import NonNegative

Task = Literal["expert", "trial", "evaluation"]
TASKS: tuple[Task, ...] = ("expert", "trial", "evaluation")

USUAL_SHARES: Mapping[Task, float] = {"expert": 0.5, "trial": 1.0, "evaluation": 0.5}
"""Shares of a GPU where the memory of a task or of a GPU is not known."""


class Request(Strict):
    """Resources of one task: CPUs, and a fraction of a GPU or a whole number of GPUs; None: what its memory needs."""

    cpu: NonNegative = 1.0
    gpu: NonNegative | None = None

    def check(self) -> None:
        require(self.gpu is None or self.gpu <= 1 or self.gpu.is_integer(), "gpu", value=self.gpu,
                 expected="at most 1, or a whole number of GPUs")  # fmt: skip


class Resources(Strict):
    """Resources of an expert, a trial and an evaluation; ``gpu`` counts as 0 in a cluster without GPUs."""

    expert: Request = Field(default_factory=Request)
    trial: Request = Field(default_factory=Request)
    evaluation: Request = Field(default_factory=Request)

    def of(self, task: Task, shares: Mapping[Task, float]) -> dict[str, float]:
        """Return the ``cpu`` and ``gpu`` of a task, where ``shares`` are those of tasks that leave it open."""
        request: Request = getattr(self, task)
        return {"cpu": request.cpu, "gpu": shares[task] if request.gpu is None else request.gpu}
