"""The exact gradient at constant memory: the adjoint of the student's updates, one step's graph alive at a time.

Equal to ``stored`` up to rounding. With the adjoint a_i = dLoss / dtheta_i and v = rate * a_{i+1} (a modality at a
time), the update theta_{i+1} = theta_i - rate * g(theta_i, x) gives

    dLoss/drate  -= <a_{i+1}, g_i>,    dLoss/dx -= d<g_i, v>/dx,    a_i = a_{i+1} - d<g_i, v>/dtheta_i,

where the last two are one Hessian-vector product of the inner loss (reverse over reverse). Only the parameters before
each step are kept; gradients and graphs are made again on the way back.
"""

import torch
from torch import Tensor

from engine.tensors import Params, modality_of
from engine.unroll import Data, Draw, Unroll, UnrollGradient, end_adjoint, leaves, step_gradient, walk


def gradient(problem: Unroll) -> UnrollGradient:
    """Return the exact gradient, keeping T + 1 copies of the parameters and the graph of one step."""
    path = walk(problem)
    losses, adjoint = end_adjoint(problem, path.pop())
    data = {name: torch.zeros_like(value) for name, value in problem.data.items()}
    rates = {modality: torch.zeros_like(value) for modality, value in problem.rates.items()}
    for draw in reversed(problem.draws):
        adjoint = _step_back(problem, path.pop(), draw, adjoint, data, rates)
    return UnrollGradient(losses=losses, data=data, rates=rates)


def _step_back(
    problem: Unroll, params: Params, draw: Draw, adjoint: Params, data_gradient: Data, rate_gradient: dict[str, Tensor]
) -> Params:
    """Add one step's share to the gradients in place, and return the adjoint before the step."""
    params, data = leaves(params), leaves(problem.data)
    gradients = step_gradient(problem, params, data, draw, create_graph=True)
    directions = {name: problem.rates[modality_of(name)] * value for name, value in adjoint.items()}
    product = torch.stack([(gradients[name] * directions[name]).sum() for name in params]).sum()
    wanted = [*data.values(), *params.values()]
    pulled = torch.autograd.grad(product, wanted, allow_unused=True, materialize_grads=True)
    for name, value in zip(data, pulled[: len(data)], strict=True):
        data_gradient[name] -= value
    for name, value in gradients.items():
        rate_gradient[modality_of(name)] -= (adjoint[name] * value.detach()).sum()
    return {name: adjoint[name] - value for name, value in zip(params, pulled[len(data) :], strict=True)}
