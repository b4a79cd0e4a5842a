"""The gradient of a loss at the end of an unroll of student steps, in the modes of this folder.

The student takes steps theta_{i+1} = theta_i - rate * g(theta_i, data), i = 0..T-1, with one learning rate a modality;
the loss is a sum of named losses of theta_T: the distances to where an expert went, or a contrast of real pairs.
Each mode is a file with a function ``gradient(problem)``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from engine.tensors import Modality, Params, modality_of

Data = dict[str, Tensor]
"""What the inner loss reads besides the parameters, by name: prepared images, text embeddings, similarity."""


@dataclass(frozen=True)
class Mixup:
    """Pair i of a batch becomes ``weight`` of itself and the rest of pair ``partner[i]``, on both sides alike."""

    weight: float
    partner: Int64[Tensor, " b"]


@dataclass(frozen=True)
class InnerBatch:
    """Everything random about one inner step, recorded so that the step can be repeated exactly."""

    pairs: Int64[Tensor, " b"]
    blend: Mixup | None = None


InnerLoss = Callable[[Params, Data, InnerBatch], Float[Tensor, ""]]
OuterLosses = Callable[[Params], dict[str, Float[Tensor, ""]]]


@dataclass(frozen=True)
class Unroll:
    """One unroll: the inner loss, where the student starts, what is lost at its end, its data, rates and draws.

    No tensor given here is written to.
    """

    loss: InnerLoss
    start: Params
    end: OuterLosses
    data: Data
    learning_rates: dict[Modality, Float[Tensor, ""]]
    draws: Sequence[InnerBatch]


@dataclass(frozen=True)
class UnrollGradient:
    """The losses at the end (detached) and the gradient of their sum with respect to the data and the rates."""

    losses: dict[str, Tensor]
    data: Data
    learning_rates: dict[Modality, Tensor]


def leaves(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return aliases of ``values`` that autograd treats as independent leaves."""
    return {name: value.detach().requires_grad_() for name, value in values.items()}


def step_gradient(problem: Unroll, params: Params, data: Data, draw: InnerBatch, *, create_graph: bool) -> Params:
    """Return the gradient of the inner loss of one step with respect to ``params``, which must require gradients."""
    gradients = torch.autograd.grad(problem.loss(params, data, draw), list(params.values()), create_graph=create_graph)
    return dict(zip(params, gradients, strict=True))


def updated(params: Params, gradients: Params, learning_rates: dict[Modality, Tensor]) -> Params:
    """Return the parameters after one SGD step with a learning rate a modality."""
    return {name: value - learning_rates[modality_of(name)] * gradients[name] for name, value in params.items()}


def rollout(problem: Unroll) -> list[Params]:
    """Return the student's parameters before each step and after the last one, without any graph."""
    path = [{name: value.detach() for name, value in problem.start.items()}]
    for draw in problem.draws:
        gradients = step_gradient(problem, leaves(path[-1]), problem.data, draw, create_graph=False)
        path.append(
            {name: value.detach() for name, value in updated(path[-1], gradients, problem.learning_rates).items()}
        )
    return path


def total_loss(losses: dict[str, Tensor], wanted: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Return the sum of ``losses``; where there is none it is zero, with a gradient of zero in ``wanted``."""
    return torch.stack(list(losses.values()) or [value.sum() * 0 for value in wanted]).sum()


def end_adjoint(problem: Unroll, end: Params) -> tuple[dict[str, Tensor], Params]:
    """Return the losses at ``end`` and the gradient of their sum there, zero for parameters that none depends on."""
    end = leaves(end)
    losses = problem.end(end)
    total = total_loss(losses, list(end.values()))
    gradients = torch.autograd.grad(total, list(end.values()), allow_unused=True, materialize_grads=True)
    return {m: loss.detach() for m, loss in losses.items()}, dict(zip(end, gradients, strict=True))


@dataclass
class Cotangents:
    """The gradient of an unroll as it is gathered step by step on the way back."""

    data: Data
    learning_rates: dict[Modality, Tensor]

    @classmethod
    def nothing(cls, problem: Unroll) -> "Cotangents":
        """Return zeros for everything that ``problem`` differentiates."""
        data = {name: torch.zeros_like(value) for name, value in problem.data.items()}
        return cls(data, {modality: torch.zeros_like(value) for modality, value in problem.learning_rates.items()})


def adjoint_step(
    problem: Unroll, params: Params, draw: InnerBatch, adjoint: Params, into: Cotangents, *, also: Sequence[str] = ()
) -> Params:
    """Add one step's share of the gradient to ``into``, and return d<g, rate * adjoint> / d ``params`` for ``also``.

    One Hessian-vector product of the inner loss at ``params`` (reverse over reverse); its graph dies here.
    """
    params, data = leaves(params), leaves(problem.data)
    gradients = step_gradient(problem, params, data, draw, create_graph=True)
    directions = {name: problem.learning_rates[modality_of(name)] * value for name, value in adjoint.items()}
    product = torch.stack([(gradients[name] * directions[name]).sum() for name in params]).sum()
    wanted = [*data.values(), *(params[name] for name in also)]
    pulled = torch.autograd.grad(product, wanted, allow_unused=True, materialize_grads=True)
    for name, value in zip(data, pulled[: len(data)], strict=True):
        into.data[name] -= value
    for name, value in gradients.items():
        into.learning_rates[modality_of(name)] -= (adjoint[name] * value.detach()).sum()
    return dict(zip(also, pulled[len(data) :], strict=True))
