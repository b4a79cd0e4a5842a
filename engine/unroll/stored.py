"""Autograd through the whole unroll: the reference. Its memory grows with the number of steps."""

import torch

from engine.unroll import Unroll, UnrollGradient, leaves, step_gradient, total_loss, updated


def gradient(problem: Unroll) -> UnrollGradient:
    """Return the exact gradient by keeping the graph of every step."""
    data, learning_rates = leaves(problem.data), leaves(problem.learning_rates)
    params = leaves(problem.start)
    for draw in problem.draws:
        params = updated(params, step_gradient(problem, params, data, draw, create_graph=True), learning_rates)
    losses = problem.end(params)
    wanted = [*data.values(), *learning_rates.values()]
    total = total_loss(losses, wanted)
    gradients = torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)
    return UnrollGradient(
        losses={m: loss.detach() for m, loss in losses.items()},
        data=dict(zip(data, gradients[: len(data)], strict=True)),
        learning_rates=dict(zip(learning_rates, gradients[len(data) :], strict=True)),
    )
