"""The gradient of a trajectory-matching loss through an unroll of student steps, in the modes of this folder.

The student takes steps theta_{i+1} = theta_i - rate * g(theta_i, data), i = 0..T-1, with one learning rate a modality;
the loss is the sum over modalities of ||theta_T - target||^2 / ||theta_0 - target||^2 (arXiv 2308.07545, equation 3).
Each mode is a file with a function ``gradient(problem)``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from engine.losses.matching import matching_losses
from engine.tensors import Modality, Params, modality_of

Data = dict[str, Tensor]
"""What the inner loss reads besides the parameters, by name: prepared images, text embeddings, similarity."""


@dataclass(frozen=True)
class Draw:
    """Everything random about one inner step, recorded so that the step can be repeated exactly."""

    pairs: Int64[Tensor, " b"]


InnerLoss = Callable[[Params, Data, Draw], Float[Tensor, ""]]


@dataclass(frozen=True)
class Unroll:
    """One unroll: the inner loss, where the student starts and should arrive, its data, rates and draws.

    No tensor given here is written to.
    """

    loss: InnerLoss
    start: Params
    target: Params
    data: Data
    rates: dict[Modality, Float[Tensor, ""]]
    draws: Sequence[Draw]


@dataclass(frozen=True)
class UnrollGradient:
    """The matching loss a modality (detached) and its gradient with respect to the data and the rates."""

    losses: dict[Modality, Tensor]
    data: Data
    rates: dict[Modality, Tensor]


def leaves(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return aliases of ``values`` that autograd treats as independent leaves."""
    return {name: value.detach().requires_grad_() for name, value in values.items()}


def step_gradient(problem: Unroll, params: Params, data: Data, draw: Draw, *, create_graph: bool) -> Params:
    """Return the gradient of the inner loss of one step with respect to ``params``, which must require gradients."""
    gradients = torch.autograd.grad(problem.loss(params, data, draw), list(params.values()), create_graph=create_graph)
    return dict(zip(params, gradients, strict=True))


def updated(params: Params, gradients: Params, rates: dict[Modality, Tensor]) -> Params:
    """Return the parameters after one SGD step with a learning rate a modality."""
    return {name: value - rates[modality_of(name)] * gradients[name] for name, value in params.items()}


def walk(problem: Unroll) -> list[Params]:
    """Return the student's parameters before each step and after the last one, without any graph."""
    path = [{name: value.detach() for name, value in problem.start.items()}]
    for draw in problem.draws:
        gradients = step_gradient(problem, leaves(path[-1]), problem.data, draw, create_graph=False)
        path.append({name: value.detach() for name, value in updated(path[-1], gradients, problem.rates).items()})
    return path


def total_loss(losses: dict[Modality, Tensor], wanted: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Return the sum of ``losses``; where no expert moved it is zero, with a gradient of zero in ``wanted``."""
    return torch.stack(list(losses.values()) or [value.sum() * 0 for value in wanted]).sum()


def end_adjoint(problem: Unroll, end: Params) -> tuple[dict[Modality, Tensor], Params]:
    """Return the matching losses at ``end`` and the gradient of their sum there.

    The gradient of a modality whose expert did not move is zero.
    """
    end = leaves(end)
    losses = matching_losses(end, problem.start, problem.target)
    total = total_loss(losses, list(end.values()))
    gradients = torch.autograd.grad(total, list(end.values()), allow_unused=True, materialize_grads=True)
    return {m: loss.detach() for m, loss in losses.items()}, dict(zip(end, gradients, strict=True))
