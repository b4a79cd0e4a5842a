"""The exact gradient at constant memory: the adjoint of the student's updates, one step's graph alive at a time.

Equal to ``stored`` up to rounding. With the adjoint a_i = dLoss / dtheta_i and v = rate * a_{i+1} (a modality at a
time), the update theta_{i+1} = theta_i - rate * g(theta_i, x) gives

    dLoss/drate  -= <a_{i+1}, g_i>,    dLoss/dx -= d<g_i, v>/dx,    a_i = a_{i+1} - d<g_i, v>/dtheta_i,

where the last two are one Hessian-vector product of the inner loss. Only the parameters before each step are kept;
gradients and graphs are made again on the way back. The adjoint before the first step is not needed, nor made.
"""

from engine.unroll import Cotangents, Unroll, UnrollGradient, adjoint_step, end_adjoint, rollout


def gradient(problem: Unroll) -> UnrollGradient:
    """Return the exact gradient, keeping T + 1 copies of the parameters and the graph of one step."""
    path = rollout(problem)
    losses, adjoint = end_adjoint(problem, path.pop())
    result = Cotangents.nothing(problem)
    for draw in reversed(problem.draws):
        params = path.pop()
        pulled = adjoint_step(problem, params, draw, adjoint, result, also=list(params) if path else [])
        adjoint = {name: adjoint[name] - value for name, value in pulled.items()}
    return UnrollGradient(losses=losses, data=result.data, learning_rates=result.learning_rates)
