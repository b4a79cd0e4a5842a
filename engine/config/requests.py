"""The resources that a study asks for, a task each."""

from pydantic import Field, model_validator

from engine.config.strict import Strict, require
from engine.ranges import NonNegative


class Request(Strict):
    """Resources of one task: CPUs, and a fraction of a GPU or a whole number of GPUs."""

    cpu: NonNegative = 1.0
    gpu: NonNegative = 1.0

    @model_validator(mode="after")
    def _whole_above_one(self) -> "Request":
        require(self.gpu <= 1 or self.gpu.is_integer(), "gpu", value=self.gpu,
                 expected="at most 1, or a whole number of GPUs")  # fmt: skip
        return self


class Resources(Strict):
    """Resources of an expert, a trial and an evaluation; ``gpu`` counts as 0 in a cluster without GPUs."""

    expert: Request = Field(default_factory=lambda: Request(gpu=0.5))
    trial: Request = Field(default_factory=Request)
    evaluation: Request = Field(default_factory=lambda: Request(gpu=0.5))
