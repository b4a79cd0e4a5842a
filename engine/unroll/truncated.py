"""The truncated gradient of published code: each step's gradient is differentiated at constant parameters.

With every theta_i held constant, the end of the unroll is theta_0 - lr * sum_i g(theta_i, x), so that the adjoint at
the end is used at every step: dLoss/dx -= d<g_i, lr * a_T>/dx. The effect of an early step on later ones is lost, so
this is *not* the gradient of the loss, but it is the direction that LoRS and RepBlend follow. Its memory is constant
like that of ``exact``, and it needs no derivative with respect to the parameters.

References:
    TESLA, arXiv 2211.10586; the code of arXiv 2406.03793 follows it.
"""

from engine.unroll.steps import Cotangents, Unroll, UnrollGradient, adjoint_step, outer_gradient, rollout


def gradient(unroll: Unroll) -> UnrollGradient:
    """Return the truncated gradient, keeping T + 1 copies of the parameters and the graph of one step."""
    path = list(rollout(unroll))
    losses, adjoint = outer_gradient(unroll, path.pop())
    result = Cotangents.zeros(unroll)
    for batch in reversed(unroll.batches):
        adjoint_step(unroll, path.pop(), batch, adjoint, result)
    return UnrollGradient(losses=losses, data=result.data, learning_rates=result.learning_rates)
