"""Gradients of a loss at the end of an unroll of student steps, by the name that a configuration uses."""

from typing import Literal

from engine.unroll import exact, stored, truncated
from engine.unroll.steps import InnerBatch, Unroll

__all__ = ["GRADIENTS", "GradientName", "InnerBatch", "Unroll"]

GradientName = Literal["exact", "stored", "truncated"]
GRADIENTS = {"exact": exact.gradient, "stored": stored.gradient, "truncated": truncated.gradient}
