"""The outer loop: a method's gradient, an optimiser's step, and checkpoints that resume exactly."""

import json
import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from engine.io.files import atomic_path
from engine.methods import Method, Metrics, Sources, State
from engine.rng import named_generator
from engine.synthetic.set import SyntheticSet

FORMAT_VERSION = 1
OnStep = Callable[[int, State, Metrics], None]


class NonFiniteLossError(ArithmeticError):
    """An outer step gave a loss that is not a number; repeating it would give the same."""


@dataclass
class Distillation:
    """A run of a method: its state, its optimiser and the number of outer steps taken.

    Outer step ``k`` draws from the stream ``outer/<k>`` of ``seed``, so that a resumed run goes on as if uninterrupted.
    ``clip`` bounds the norm of the gradient of each parameter group. With ``ema`` the result is not the set as it was
    last stepped but its exponential moving average, which keeps the share ``ema`` of itself at each step.
    """

    method: Method
    state: State
    optimiser: torch.optim.Optimizer
    sources: Sources
    seed: int
    clip: float | None = None
    ema: float | None = None
    step: int = 0

    def __post_init__(self) -> None:
        self.average = None if self.ema is None else deepcopy(self.state.synthetic).requires_grad_(False)

    @property
    def synthetic(self) -> SyntheticSet:
        """The set that the run has come to: the average where one is kept (an alias)."""
        return self.state.synthetic if self.average is None else self.average

    def run(self, steps: int, on_step: OnStep | None = None) -> Metrics:
        """Take ``steps`` outer steps and return the last one's metrics.

        Raises:
            NonFiniteLossError: the loss is not finite; the set is as it was before that step.
        """
        metrics: Metrics = {}
        for _ in range(steps):
            self.state.zero_grad()
            metrics = self.method.backward(self.state, self.sources, named_generator(self.seed, f"outer/{self.step}"))
            if not math.isfinite(metrics["loss"]):
                name = type(self.method).__module__.rpartition(".")[2]
                raise NonFiniteLossError(f"method {name}: the loss of outer step {self.step} is not finite: {metrics}.")
            self._update()
            self.step += 1
            if on_step is not None:
                on_step(self.step, self.state, metrics)
        return metrics

    def _update(self) -> None:
        if self.clip is not None:
            for entry in self.optimiser.param_groups:
                torch.nn.utils.clip_grad_norm_(entry["params"], self.clip)
        self.optimiser.step()
        if self.average is not None and self.ema is not None:
            for kept, value in zip(self.average.parameters(), self.state.synthetic.parameters(), strict=True):
                kept.lerp_(value.detach(), 1 - self.ema)

    def save(self, path: Path) -> None:
        """Write the state, the average, the optimiser and the step as one safetensors file, atomically."""
        tensors = {f"state.{name}": value for name, value in self.state.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        tensors |= {f"optimiser.{name}": value for name, value in _optimiser_tensors(self.optimiser).items()}
        header = {"format_version": str(FORMAT_VERSION), "step": str(self.step), "metadata": _metadata(self.state)}
        with atomic_path(path) as temporary:
            save_file({name: v.detach().cpu().contiguous() for name, v in tensors.items()}, temporary, metadata=header)

    def load(self, path: Path) -> None:
        """Continue from what ``save`` wrote for a run of the same method, data and seed.

        Raises:
            ValueError: the file is damaged or belongs to another run.
        """
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
            state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
            self.state.load_state_dict(state)
            if self.average is not None:
                average = {k.removeprefix("average."): v for k, v in tensors.items() if k.startswith("average.")}
                self.average.load_state_dict(average)
        except (SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise ValueError(f"{path}: expected a checkpoint of this run, but {reason}.") from error
        step = header.get("step", "")
        if not (step.isascii() and step.isdigit()):
            raise ValueError(f"{path}: expected a checkpoint of this run, but it names no step: {step!r}.")
        _load_optimiser(self.optimiser, {k.removeprefix("optimiser."): v for k, v in tensors.items()})
        self.step = int(step)


def _metadata(state: State) -> str:
    return json.dumps(state.synthetic.metadata, sort_keys=True)


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's state as tensors named ``<parameter>.<entry>``."""
    states = optimiser.state_dict()["state"]
    return {f"{index}.{entry}": torch.as_tensor(value) for index, s in states.items() for entry, value in s.items()}


def _load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what ``_optimiser_tensors`` returned; hyper-parameters stay those of the present optimiser."""
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, entry = name.partition(".")
        if index.isdigit():
            states.setdefault(int(index), {})[entry] = value
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})


def outer_optimiser(
    groups: list[dict[str, Any]],
    learning_rates: Mapping[str, float],
    *,
    name: Literal["adam", "sgd"] = "adam",
    momentum: float = 0.0,
) -> torch.optim.Optimizer:
    """Return an optimiser over ``groups``, each with the learning rate of its name in ``rates``.

    ``adam`` moves pixels in [0, 1], embeddings and logarithms of rates by steps of about their rate; ``sgd`` with
    momentum 0.5 is what published code uses, with rates of 100 to 5,000. ``momentum`` belongs to ``sgd`` alone.

    Raises:
        ValueError: a group has no rate.
    """
    for entry in groups:
        if entry["name"] not in learning_rates:
            raise ValueError(f"optimiser.{entry['name']}_lr: the method learns {entry['name']!r}, so it needs a rate.")
    with_rates = [{**entry, "lr": learning_rates[entry["name"]]} for entry in groups]
    if name == "sgd":
        return torch.optim.SGD(with_rates, lr=0.0, momentum=momentum)
    return torch.optim.Adam(with_rates)
