"""The exact gradient by autograd through the whole unroll: the reference, whose memory grows with the steps."""

import torch

from engine.unroll.steps import Unroll, UnrollGradient, leaves, step_gradient, total_loss, updated


def gradient(unroll: Unroll) -> UnrollGradient:
    """Return the exact gradient by keeping the graph of every step."""
    data, learning_rates = leaves(unroll.data), leaves(unroll.learning_rates)
    params = leaves(unroll.start)
    for batch in unroll.batches:
        params = updated(params, step_gradient(unroll, params, data, batch, create_graph=True), learning_rates)
    losses = unroll.outer_loss(params)
    inputs = [*data.values(), *learning_rates.values()]
    gradients = torch.autograd.grad(total_loss(losses, inputs), inputs, allow_unused=True, materialize_grads=True)
    return UnrollGradient(
        losses={name: loss.detach() for name, loss in losses.items()},
        data=dict(zip(data, gradients[: len(data)], strict=True)),
        learning_rates=dict(zip(learning_rates, gradients[len(data) :], strict=True)),
    )
