"""Methods: how a synthetic set is learned. One file each; this page holds what they all share with the outer loop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from engine.data.prepared import PreparedPairs
from engine.experts.trajectory import ExpertSource
from engine.models.two_tower import TwoTower
from engine.synthetic.initialisation import Init
from engine.synthetic.set import SyntheticSet

Metrics = dict[str, float]


@dataclass(frozen=True)
class Sources:
    """What a method reads: the student's architecture, expert trajectories, and the real training pairs."""

    student: TwoTower
    experts: ExpertSource
    pairs: PreparedPairs


class State(nn.Module):
    """Everything about a method that changes; at least the synthetic set."""

    def __init__(self, synthetic: SyntheticSet) -> None:
        super().__init__()
        self.synthetic = synthetic


@runtime_checkable
class Method(Protocol):
    """How a synthetic set is learned; its fields are hyper-parameters, everything that changes is in its ``State``."""

    needs: ClassVar[frozenset[str]]
    """A subset of {"experts", "pairs", "frozen_encoders"}; the last is a student that trains its heads alone."""

    num_pairs: int
    init: Init

    def epochs(self) -> Sequence[int]:
        """Return the expert epochs that it can read; experts are trained and kept no further than the last."""
        ...

    def initial_state(self, images: Tensor, texts: Tensor, sources: Sources, generator: torch.Generator) -> State:
        """Return the state before the first outer step, whose set is ``images`` and ``texts``."""
        ...

    def param_groups(self, state: State) -> list[dict[str, Any]]:
        """Return what the outer optimiser steps: a ``name`` and ``params`` a group; rates are the optimiser's own."""
        ...

    def backward(self, state: State, sources: Sources, generator: torch.Generator) -> Metrics:
        """Add the gradient of one outer step to ``.grad`` and return numbers to log, ``loss`` among them."""
        ...


def group(name: str, parameters: Mapping[str, nn.Parameter] | Sequence[nn.Parameter]) -> dict[str, Any]:
    """Return one entry of ``Method.param_groups``."""
    values = list(parameters.values()) if isinstance(parameters, Mapping) else list(parameters)
    return {"name": name, "params": values}
