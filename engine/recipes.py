"""Settings of students that the library and the configuration share; importing them loads no torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Gt, Le, MinLen

from engine.ranges import Count, NonNegative, Positive, Share

Schedule = Literal["constant", "step", "cosine"]


def rate_factor(schedule: Schedule, done: float) -> float:
    """Return the factor on learning rates after the fraction ``done`` of all steps."""
    if schedule == "step":
        return 1.0 if done < 0.5 else 0.1
    return 1.0 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * done))


Area = Annotated[float, Gt(0), Le(1)]

Precision = Literal["fp32", "tf32", "bf16"]
"""How products of float32 are computed: in full, with operands rounded to 10 bits, or encoders alone in bfloat16."""


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters: the update of a weight is ``alpha / rank`` B A, of the given rank.

    ``targets`` names layers by the end of their dotted name, as peft does (``qkv``, ``blocks.0.mlp.fc1``). None selects
    every linear layer and every ungrouped convolution except the one that reads the pixels; depthwise and other grouped
    convolutions are excluded because the rank has to be divisible by the number of groups.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    rank: Count = 8
    alpha: Positive = 8.0
    targets: Annotated[Sequence[Annotated[str, MinLen(1)]], MinLen(1)] | None = None


@dataclass(frozen=True, kw_only=True)
class StudentRecipe:
    """Training of a student on a small set: SGD with momentum, as in arXiv 2308.07545 and its successors.

    ``step`` divides the learning rates by ten after half of the epochs; ``cosine`` decays them to zero.
    """

    epochs: Count = 100
    batch_size: Count = 128
    momentum: Share = 0.9
    weight_decay: NonNegative = 5e-4
    schedule: Schedule = "constant"


@dataclass(frozen=True, kw_only=True)
class Views:
    """Random views of synthetic images: ``count`` in each outer step, whose gradients are averaged.

    ``crop`` is the range of the share of an image's area that a view keeps; ``noise`` is the standard deviation of what
    is added to pixels in [0, 1].
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    count: Count = 1
    crop: tuple[Area, Area] = (0.7, 1.0)
    noise: NonNegative = 0.0
