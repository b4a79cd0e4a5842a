"""The outer loop: a method's gradient, an optimiser's step, and checkpoints that resume exactly."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from engine.io.files import atomic_path
from engine.methods import Method, Metrics, Sources, State
from engine.recipes import Schedule, Views, rate_factor
from engine.rng import named_generator
from engine.synthetic.pyramid import Pyramid
from engine.synthetic.set import SyntheticSet
from engine.synthetic.shown import shown, with_images
from engine.tensors import check_finite

FORMAT_VERSION = 2
USUAL = "pixels, whole, students drawn"
"""How images are shown in a checkpoint that does not say it."""
_ENTRIES = {torch.optim.Adam: ("step", "exp_avg", "exp_avg_sq"), torch.optim.SGD: ("momentum_buffer",)}
"""What each optimiser keeps of a parameter."""
OnStep = Callable[[int, State, Metrics], None]


class NonFiniteLossError(ArithmeticError):
    """The loss of an outer step, or the set after it, is not finite; repeating the step would give the same."""


@dataclass
class Distillation:
    """A run of a method: its state, its optimiser and the number of outer steps taken.

    Outer step ``k`` has the generator named ``outer/<k>`` of ``seed``, so that a resumed run continues as if it had
    never stopped. ``clip`` bounds the norm of the gradient of each parameter group. With ``ema`` the result is the
    exponential moving average of the sets, which keeps the share ``ema`` of itself at each step.

    Where the set is learned for further students, ``further`` has their sources, each with its own experts and learning
    rates. An outer step is that of one student, drawn from all with equal probability, or with ``every_student`` the
    sum of all (as HMDC, ECCV 2024, known here from descriptions, does with two).

    ``views`` are what the method sees of each image, in passes of their own whose gradients are averaged. With
    ``pyramid`` the images are what it shows, and its layers are learned in their place. ``bound`` keeps every pixel
    that close to where it started. ``schedule`` lowers the optimiser's rates over the first ``steps`` outer steps.
    """

    method: Method
    state: State
    optimiser: torch.optim.Optimizer
    sources: Sources
    seed: int
    clip: float | None = None
    ema: float | None = None
    step: int = 0
    further: Sequence[Sources] = ()
    every_student: bool = False
    views: Views | None = None
    pyramid: Pyramid | None = None
    bound: float | None = None
    schedule: Schedule = "constant"
    steps: int = 1

    def __post_init__(self) -> None:
        self._rates = [entry["lr"] for entry in self.optimiser.param_groups]
        self.start_images()
        self.average = None if self.ema is None else deepcopy(self.state.synthetic).requires_grad_(False)

    def start_images(self) -> None:
        """Keep a copy of the present images, from which pixels may move by ``bound`` at most."""
        self._start = None if self.bound is None else self.state.synthetic.images.detach().clone()

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
            self.optimiser.zero_grad()
            self.state.zero_grad()
            metrics = self._backward()
            if not math.isfinite(metrics["loss"]):
                raise NonFiniteLossError(
                    f"method {self._name}: the loss of outer step {self.step} is not finite: {metrics}."
                )
            metrics |= self._move()
            if self.average is not None and self.ema is not None:
                for kept, value in zip(self.average.parameters(), self.state.synthetic.parameters(), strict=True):
                    kept.lerp_(value.detach(), 1 - self.ema)
            self.step += 1
            if on_step is not None:
                on_step(self.step, self.state, metrics)
        return metrics

    def _backward(self) -> Metrics:
        """Add the gradient of this outer step, and return the sums over students and means over views of the metrics.

        The learning rates of further students have names of their own.
        """
        every, passes = [self.sources, *self.further], 1 if self.views is None else self.views.count
        totals: Metrics = {}
        numbers: Sequence[int] = range(len(every))
        if self.further and not self.every_student:
            drawn = torch.randint(len(every), (), generator=named_generator(self.seed, f"student/{self.step}"))
            numbers = [int(drawn)]
        learned, state = None, self.state
        if self.pyramid is not None:
            learned = self.pyramid()
            state = with_images(state, learned)
        for number in numbers:
            for part in range(passes):
                name = f"{self.step}/{part}" if part else str(self.step)
                with shown(state.of_student(number), self.views, named_generator(self.seed, f"view/{name}")) as seen:
                    found = self.method.backward(seen, every[number], named_generator(self.seed, f"outer/{name}"))
                for key, value in found.items():
                    own = key.replace("inner_lr/", f"inner_lr/{number}/") if number else key
                    totals[own] = totals.get(own, 0.0) + value / passes
        if learned is not None:
            learned.backward(state.synthetic.images.grad)
        if passes > 1:
            for entry in self.optimiser.param_groups:
                for parameter in entry["params"]:
                    if parameter.grad is not None:
                        parameter.grad /= passes
        return totals

    def _move(self) -> Metrics:
        """Take the optimiser's step, and return the gradient norm of each group before clipping and the pixels' change.

        The change is the root mean square over all pixels, which lie in [0, 1].
        """
        images = self.state.synthetic.images.detach()
        before, norms = images.clone(), {}
        for entry in self.optimiser.param_groups:
            gradients = [value.grad for value in entry["params"] if value.grad is not None]
            norms[f"gradient/{entry['name']}"] = norm = get_total_norm(gradients)
            if self.clip is not None:
                clip_grads_with_norm_(entry["params"], self.clip, norm)
        factor = rate_factor(self.schedule, min(1.0, self.step / self.steps))
        for entry, rate in zip(self.optimiser.param_groups, self._rates, strict=True):
            entry["lr"] = factor * rate
        self.optimiser.step()
        with torch.no_grad():
            if self.pyramid is not None:
                images.copy_(self.pyramid())
            if self._start is not None and self.bound is not None:
                images.clamp_(self._start - self.bound, self._start + self.bound)
        named = norms | {"pixel_change": torch.dist(images, before) / math.sqrt(images.numel())}
        values = torch.stack([value.float() for value in named.values()]).cpu()  # a GPU is waited for once
        return {name: value.item() for name, value in zip(named, values, strict=True)}

    def check(self) -> None:
        """Raise a NonFiniteLossError if the present result is not finite; ``run`` also runs without numbers."""
        try:
            self.synthetic.check()
        except ValueError as error:
            raise NonFiniteLossError(f"method {self._name}: after outer step {self.step}, {error}") from error

    @property
    def _name(self) -> str:
        return type(self.method).__module__.rpartition(".")[2]

    @property
    def _shown_as(self) -> str:
        """How images are learned and shown, and students chosen, in words for a checkpoint."""
        shape = "pixels" if self.pyramid is None else f"layers of {[layer.shape[-1] for layer in self.pyramid.layers]}"
        bound = "" if self.bound is None else f" within {self.bound}"
        seen = "whole" if self.views is None else f"in {json.dumps(asdict(self.views))}"
        tiles = "" if (one := self.state.synthetic.tiles) == 1 else f" as mosaics of {one} x {one}"
        return f"{shape}{bound}{tiles}, {seen}, students {'summed' if self.every_student else 'drawn'}"

    def _header(self) -> dict[str, str]:
        """Return the entries of a checkpoint's header that must agree with the run that loads it."""
        options = {f"method.{key}": json.dumps(value) for key, value in asdict(cast(Any, self.method)).items()}
        return {
            "format_version": str(FORMAT_VERSION),
            "seed": str(self.seed),
            "method": self._name,
            **options,
            "shown": self._shown_as,
            "ema": str(self.ema),
            "metadata": json.dumps(self.state.synthetic.metadata, sort_keys=True),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the state and of the average by their names in a checkpoint (aliases)."""
        tensors = {f"state.{name}": value for name, value in self.state.state_dict().items()}
        if self.pyramid is not None:
            tensors |= {f"pyramid.{name}": value for name, value in self.pyramid.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        return tensors

    def save(self, path: Path) -> None:
        """Write the state, the average, the optimiser and the step as one safetensors file, atomically."""
        tensors = self.tensors()
        for index, entries in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{entry}": torch.as_tensor(value) for entry, value in entries.items()}
        tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata={**self._header(), "step": str(self.step)})

    def load(self, path: Path) -> None:
        """Continue from a checkpoint that ``save`` wrote for a run of the same method, options, data and seed.

        Everything is checked before anything of this run is replaced.

        Raises:
            ValueError: the file is damaged, of another format version, or of another run, or a number of its set is
                not finite.
        """
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        except SafetensorError as error:
            raise ValueError(f"{path}: expected a checkpoint of this run, but {error}.") from error
        for key, own in self._header().items():
            found = header.get(key, USUAL if key == "shown" else None)
            if found != own:
                raise ValueError(f"{path}: expected a checkpoint with {key} {own}, found {found}.")
        step = header.get("step", "")
        if not (step.isascii() and step.isdigit() and len(step) < 16):
            raise ValueError(f"{path}: expected a checkpoint with a step, found {step[:80]!r}.")
        self._compare(path, tensors)
        states: dict[int, dict[str, Tensor]] = {}
        for name in tensors:
            if name.startswith("optimiser."):
                _, index, entry = name.split(".")
                states.setdefault(int(index), {})[entry] = tensors[name]
        for name, value in self.tensors().items():
            value.copy_(tensors[name])
        groups = self.optimiser.state_dict()["param_groups"]  # hyper-parameters stay those of this run
        self.optimiser.load_state_dict({"state": states, "param_groups": groups})
        self.step = int(step)

    def _compare(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        """Compare the tensors of a checkpoint with those that this run has: names, shapes, dtypes, finite numbers.

        The optimiser has entries for the parameters that have been moved, and none for the others.
        """
        moved = {name.split(".")[1] for name in tensors if name.startswith("optimiser.")}
        learned = [value for entry in self.optimiser.param_groups for value in entry["params"]]
        expected = self.tensors()
        for index, value in enumerate(learned):
            for entry in _ENTRIES[type(self.optimiser)] if str(index) in moved else ():
                expected[f"optimiser.{index}.{entry}"] = torch.zeros(()) if entry == "step" else value
        for name in sorted(expected.keys() | tensors.keys()):
            if name not in tensors or name not in expected:
                where = "only the run" if name in expected else "only the file"
                raise ValueError(f"{path}: expected the tensors of this run, but {where} has {name}.")
            value, like = tensors[name], expected[name]
            if (value.shape, value.dtype) != (like.shape, like.dtype):
                found, wanted = (f"{list(one.shape)} of {one.dtype}" for one in (value, like))
                raise ValueError(f"{path}: {name} is {found}, expected {wanted}.")
            overflown = value.isinf() & name.startswith("optimiser.")  # Adam's squares may, and then move nothing
            check_finite(f"{path}: {name}", value.masked_fill(overflown, 0))


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
