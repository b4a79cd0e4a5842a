"""Strict pydantic models, and what their annotations accept in words."""

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

_MODALITIES = {"image", "text"}
_WANTED = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}


class Strict(BaseModel):
    """A frozen model that refuses unknown keys, booleans given as numbers, and numbers that are not finite.

    Texts are coerced to the numbers that a field wants (PyYAML reads ``1e-3`` as a text). A model whose only fields
    are ``image`` and ``text`` accepts one plain value, which then stands for both.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _one_for_both(cls, value: Any) -> Any:
        if set(cls.model_fields) == _MODALITIES and not isinstance(value, Mapping | BaseModel):
            return dict.fromkeys(("image", "text"), value)
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        booleans = isinstance(value, bool) or (isinstance(value, list | tuple) and any(type(v) is bool for v in value))
        mentioned = _mentioned(cls.model_fields[str(info.field_name)].annotation) if booleans else set()
        if mentioned & {int, float} and bool not in mentioned:
            raise PydanticCustomError("expected", "a number", {"expected": wanted(mentioned & {int, float})})
        return value


def wanted(annotation: Any) -> str:
    """Say in words what a field of this annotation accepts."""
    inner = model_of(annotation)
    if inner is not None:
        return f"a mapping of {', '.join(inner.model_fields)}"
    names = [name for kind, name in _WANTED.items() if kind in _mentioned(annotation)]
    return " or ".join(names) if names else "a value"


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model in an annotation such as ``Model`` or ``Model | None``, if any."""
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (list, tuple, dict, Literal):
        return None
    return next((found for found in map(model_of, get_args(annotation)) if found is not None), None)


def _mentioned(annotation: Any) -> set[Any]:
    """Return the plain types that an annotation is made of; of a literal, the types of its values."""
    if isinstance(annotation, set):
        return annotation
    if get_origin(annotation) is Literal:
        return {type(value) for value in get_args(annotation)}
    return {annotation} if not get_args(annotation) else set().union(*map(_mentioned, get_args(annotation)))
