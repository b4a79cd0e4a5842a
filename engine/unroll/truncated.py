"""The truncated gradient of published code: every step's gradient is differentiated at constant parameters.

With theta_i held constant, the end of the unroll is theta_0 - rate * sum_i g(theta_i, x), so that the adjoint at the
end stands for that of every step: dLoss/dx -= d<g_i, rate * a_T>/dx. What an early step does to later ones is lost, so
this is *not* the gradient of the loss, but it is what LoRS and RepBlend follow. Its memory is flat as that of
``exact``, and it saves the derivative with respect to the parameters.

References:
    TESLA, arXiv 2211.10586; the code of arXiv 2406.03793 follows it.
"""

from engine.unroll import Cotangents, Unroll, UnrollGradient, adjoint_step, end_adjoint, rollout


def gradient(problem: Unroll) -> UnrollGradient:
    """Return the truncated gradient, keeping T + 1 copies of the parameters and the graph of one step."""
    path = rollout(problem)
    losses, adjoint = end_adjoint(problem, path.pop())
    result = Cotangents.nothing(problem)
    for draw in reversed(problem.draws):
        adjoint_step(problem, path.pop(), draw, adjoint, result)
    return UnrollGradient(losses=losses, data=result.data, learning_rates=result.learning_rates)
