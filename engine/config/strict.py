"""The base of all configuration models, and the refusal of fields that contradict each other."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Name = Annotated[str, Field(min_length=1)]


class Strict(BaseModel):
    """A frozen model that refuses unknown keys and numbers that are not finite."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True, protected_namespaces=()
    )

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        self.check()
        return self

    def check(self) -> None:
        """Refuse fields that contradict each other, by ``require``; each alone is valid."""


class Component(Strict):
    """A section that names a component; its other keys are the component's options, which ``resolve`` checks."""

    model_config = ConfigDict(extra="allow")

    @property
    def options(self) -> dict[str, Any]:
        """The options of the component: as given, with all defaults after ``resolve``."""
        return dict(self.model_extra or {})


def require(holds: bool, *keys: str, value: Any, expected: str) -> None:
    """Refuse a combination of fields; the error names the first of ``keys``."""
    if not holds:
        raise PydanticCustomError("related", "related", {"keys": keys, "value": value, "expected": expected})
