"""Steps of an unrolled student, forwards and backwards.

The student takes steps theta_{i+1} = theta_i - lr * g(theta_i, data), i = 0..T-1, with one learning rate per modality.
The outer loss is a sum of named losses of theta_T, such as the distances to an expert's parameters or the contrastive
loss of real pairs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from engine.tensors import Modality, Params, modality_of

Data = dict[str, Tensor]
"""Inputs of the inner loss besides the parameters, by name: prepared images, text embeddings, similarity."""


@dataclass(frozen=True)
class Mixup:
    """Pair i of a batch becomes ``weight`` times itself plus (1 - ``weight``) times pair ``partner[i]``, both sides."""

    weight: float
    partner: Int64[Tensor, " b"]


@dataclass(frozen=True)
class InnerBatch:
    """The random choices of one inner step, recorded so that the step can be repeated exactly."""

    pairs: Int64[Tensor, " b"]
    mixup: Mixup | None = None


InnerLoss = Callable[[Params, Data, InnerBatch], Float[Tensor, ""]]
OuterLoss = Callable[[Params], dict[str, Float[Tensor, ""]]]


@dataclass(frozen=True)
class Unroll:
    """One unroll: inner loss, initial parameters, outer loss at the end, data, learning rates and batches.

    No tensor in it is written to.
    """

    inner_loss: InnerLoss
    start: Params
    outer_loss: OuterLoss
    data: Data
    learning_rates: dict[Modality, Float[Tensor, ""]]
    batches: Sequence[InnerBatch]


@dataclass(frozen=True)
class UnrollGradient:
    """The outer losses (detached) and the gradient of their sum with respect to the data and the learning rates."""

    losses: dict[str, Tensor]
    data: Data
    learning_rates: dict[Modality, Tensor]


def leaves(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return aliases of ``values`` that autograd treats as independent leaves."""
    return {name: value.detach().requires_grad_() for name, value in values.items()}


def step_gradient(unroll: Unroll, params: Params, data: Data, batch: InnerBatch, *, create_graph: bool) -> Params:
    """Return the gradient of the inner loss of one step with respect to ``params``, which must require gradients."""
    loss = unroll.inner_loss(params, data, batch)
    gradients = torch.autograd.grad(loss, list(params.values()), create_graph=create_graph)
    return dict(zip(params, gradients, strict=True))


def updated(params: Params, gradients: Params, learning_rates: dict[Modality, Tensor]) -> Params:
    """Return the parameters after one SGD step with one learning rate per modality."""
    return {name: value - learning_rates[modality_of(name)] * gradients[name] for name, value in params.items()}


def rollout(unroll: Unroll) -> Iterator[Params]:
    """Yield the student's parameters before each step and after the last one, without any graph.

    No parameters are kept here longer than the next step needs them.
    """
    params = {name: value.detach() for name, value in unroll.start.items()}
    yield params
    for batch in unroll.batches:
        gradients = step_gradient(unroll, leaves(params), unroll.data, batch, create_graph=False)
        params = {name: value.detach() for name, value in updated(params, gradients, unroll.learning_rates).items()}
        yield params


def total_loss(losses: dict[str, Tensor], inputs: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Return the sum of ``losses``; if there are none, return zero with a gradient of zero in ``inputs``."""
    return torch.stack(list(losses.values()) or [value.sum() * 0 for value in inputs]).sum()


def outer_gradient(unroll: Unroll, params: Params) -> tuple[dict[str, Tensor], Params]:
    """Return the outer losses at ``params`` and the gradient of their sum there, zero for unused parameters."""
    params = leaves(params)
    losses = unroll.outer_loss(params)
    total = total_loss(losses, list(params.values()))
    gradients = torch.autograd.grad(total, list(params.values()), allow_unused=True, materialize_grads=True)
    return {name: loss.detach() for name, loss in losses.items()}, dict(zip(params, gradients, strict=True))


@dataclass
class Cotangents:
    """The gradient of an unroll, accumulated step by step on the way back."""

    data: Data
    learning_rates: dict[Modality, Tensor]

    @classmethod
    def zeros(cls, unroll: Unroll) -> "Cotangents":
        """Return zeros in the shapes of the data and the learning rates of ``unroll``."""
        data = {name: torch.zeros_like(value) for name, value in unroll.data.items()}
        return cls(data, {modality: torch.zeros_like(value) for modality, value in unroll.learning_rates.items()})


def adjoint_step(
    unroll: Unroll, params: Params, batch: InnerBatch, adjoint: Params, into: Cotangents, *, wrt: Sequence[str] = ()
) -> Params:
    """Add one step's share of the gradient to ``into``; return d<g, lr * adjoint> / d ``params`` for the names ``wrt``.

    One Hessian-vector product of the inner loss at ``params`` (reverse over reverse); its graph is freed here.
    """
    params, data = leaves(params), leaves(unroll.data)
    gradients = step_gradient(unroll, params, data, batch, create_graph=True)
    directions = {name: unroll.learning_rates[modality_of(name)] * value for name, value in adjoint.items()}
    product = torch.stack([(gradients[name] * directions[name]).sum() for name in params]).sum()
    inputs = [*data.values(), *(params[name] for name in wrt)]
    products = torch.autograd.grad(product, inputs, allow_unused=True, materialize_grads=True)
    for name, value in zip(data, products[: len(data)], strict=True):
        into.data[name] -= value
    for name, value in gradients.items():
        into.learning_rates[modality_of(name)] -= (adjoint[name] * value.detach()).sum()
    return dict(zip(wrt, products[len(data) :], strict=True))
