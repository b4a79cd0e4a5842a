"""The outer loop: a method's gradient, an optimiser's step, and checkpoints that resume exactly."""

import json
import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from engine.io.files import atomic_path
from engine.methods import Method, Metrics, Sources, State
from engine.rng import named_generator
from engine.synthetic.set import SyntheticSet

FORMAT_VERSION = 2
OnStep = Callable[[int, State, Metrics], None]


class NonFiniteLossError(ArithmeticError):
    """The loss of an outer step is not finite; repeating the step would give the same."""


@dataclass
class Distillation:
    """A run of a method: its state, its optimiser and the number of outer steps taken.

    Outer step ``k`` has the generator named ``outer/<k>`` of ``seed``, so that a resumed run continues as if it had
    never stopped. ``clip`` bounds the norm of the gradient of each parameter group. With ``ema`` the result is the
    exponential moving average of the sets, which keeps the share ``ema`` of itself at each step.
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
        """The present result of the run: the average if there is one, else the set itself (an alias)."""
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
                raise NonFiniteLossError(
                    f"method {self._name}: the loss of outer step {self.step} is not finite: {metrics}."
                )
            if self.clip is not None:
                for entry in self.optimiser.param_groups:
                    torch.nn.utils.clip_grad_norm_(entry["params"], self.clip)
            self.optimiser.step()
            if self.average is not None and self.ema is not None:
                for kept, value in zip(self.average.parameters(), self.state.synthetic.parameters(), strict=True):
                    kept.lerp_(value.detach(), 1 - self.ema)
            self.step += 1
            if on_step is not None:
                on_step(self.step, self.state, metrics)
        return metrics

    @property
    def _name(self) -> str:
        return type(self.method).__module__.rpartition(".")[2]

    def _header(self) -> dict[str, str]:
        """Return the entries of a checkpoint's header that must agree with the run that loads it."""
        options = {f"method.{key}": json.dumps(value) for key, value in asdict(cast(Any, self.method)).items()}
        return {
            "format_version": str(FORMAT_VERSION),
            "seed": str(self.seed),
            "method": self._name,
            **options,
            "ema": str(self.ema),
            "metadata": json.dumps(self.state.synthetic.metadata, sort_keys=True),
        }

    def save(self, path: Path) -> None:
        """Write the state, the average, the optimiser and the step as one safetensors file, atomically."""
        tensors = {f"state.{name}": value for name, value in self.state.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for index, entries in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{entry}": torch.as_tensor(value) for entry, value in entries.items()}
        tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata={**self._header(), "step": str(self.step)})

    def load(self, path: Path) -> None:
        """Continue from a checkpoint that ``save`` wrote for a run of the same method, options, data and seed.

        Raises:
            ValueError: the file is damaged, of another format version, or of another run.
        """
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
                for key, own in self._header().items():
                    if header.get(key) != own:
                        raise ValueError(f"{path}: expected a checkpoint with {key} {own}, found {header.get(key)}.")
                step = header.get("step", "")
                if not (step.isascii() and step.isdigit()):
                    raise ValueError(f"{path}: expected a checkpoint with a step, found {step!r}.")
                parts: dict[str, dict[str, Tensor]] = {"state": {}, "average": {}, "optimiser": {}}
                for name in file.keys():  # noqa: SIM118  (not a mapping)
                    part, _, entry = name.partition(".")
                    parts[part][entry] = file.get_tensor(name)
            self.state.load_state_dict(parts["state"])
            if self.average is not None:
                self.average.load_state_dict(parts["average"])
        except (SafetensorError, RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise ValueError(f"{path}: expected a checkpoint of this run, but {reason}.") from error
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in parts["optimiser"].items():
            index, _, entry = name.partition(".")
            states.setdefault(int(index), {})[entry] = value
        groups = self.optimiser.state_dict()["param_groups"]  # hyper-parameters stay those of this run
        self.optimiser.load_state_dict({"state": states, "param_groups": groups})
        self.step = int(step)


def outer_optimiser(
    groups: list[dict[str, Any]],
    learning_rates: Mapping[str, float],
    *,
    name: Literal["adam", "sgd"] = "adam",
    momentum: float = 0.0,
) -> torch.optim.Optimizer:
    """Return an optimiser over ``groups``, each with the entry of its name in ``learning_rates``.

    ``adam`` moves pixels in [0, 1], embeddings and log learning rates by steps of about their learning rate. Published
    code uses ``sgd`` with momentum 0.5 and learning rates of 100 to 5,000; ``adam`` ignores ``momentum``.

    Raises:
        ValueError: a group has no learning rate.
    """
    for entry in groups:
        if entry["name"] not in learning_rates:
            raise ValueError(f"optimiser.{entry['name']}_lr: the method learns {entry['name']!r}, so it needs a rate.")
    with_lr = [{**entry, "lr": learning_rates[entry["name"]]} for entry in groups]
    if name == "sgd":
        return torch.optim.SGD(with_lr, lr=0.0, momentum=momentum)
    return torch.optim.Adam(with_lr)
