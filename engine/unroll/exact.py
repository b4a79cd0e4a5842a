"""The exact gradient at constant memory: the adjoint of the student's updates, with the graph of one step at a time.

Equal to ``stored`` up to rounding. With the adjoint a_i = dLoss / dtheta_i and v = lr * a_{i+1} (per modality), the
update theta_{i+1} = theta_i - lr * g(theta_i, x) gives

    dLoss/dlr  -= <a_{i+1}, g_i>,    dLoss/dx -= d<g_i, v>/dx,    a_i = a_{i+1} - d<g_i, v>/dtheta_i,

where the last two are one Hessian-vector product of the inner loss. Only the parameters before each step are kept;
gradients and graphs are computed again on the way back. The adjoint before the first step is not needed and therefore
not computed.
"""

from engine.unroll.steps import Cotangents, Unroll, UnrollGradient, adjoint_step, outer_gradient, rollout


def gradient(unroll: Unroll) -> UnrollGradient:
    """Return the exact gradient, keeping T + 1 copies of the parameters and the graph of one step."""
    path = list(rollout(unroll))
    losses, adjoint = outer_gradient(unroll, path.pop())
    result = Cotangents.zeros(unroll)
    for batch in reversed(unroll.batches):
        params = path.pop()
        products = adjoint_step(unroll, params, batch, adjoint, result, wrt=list(params) if path else [])
        adjoint = {name: adjoint[name] - value for name, value in products.items()}
    return UnrollGradient(losses=losses, data=result.data, learning_rates=result.learning_rates)
