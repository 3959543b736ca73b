"""The output weights of given neurons at held masses: what each says, its direction in the inputs held.

With a_j = relu(X û_j) of a unit vector û_j, f = f_0 + Σ_j a_j v_jᵀ and v_j in R^C, the ℓ2 term of neuron j is 2λ‖v_j‖
once its layers are balanced, and 2λ‖v‖ ≤ λ(2‖v‖²/μ_j + μ_j/2) with equality at its mass μ_j = 2‖v_j‖. So

    v⁺ = argmin R(f) + 2λ Σ ‖v_j‖²/μ_j,   i.e.   v_j⁺ = −(μ_j/4λ) Σ_i a_ij r⁺_i,   r⁺ = R'(f⁺),

does not raise the objective: a step of iteratively reweighted least squares for the group lasso. f⁺ is the balance of
coupling.py with K = Σ_j (μ_j/4λ) a_j a_jᵀ in each output.
"""

from __future__ import annotations

import numpy as np

from ..engine import exact_math
from ..engine.engine import Moments
from ..engine.exact_algebra import product
from ..ensemble import Ensemble
from .coupling import Balance, Coupling, Gates
from .field import Field
from .masses import put, take


def refit(field: Field, ensemble: Ensemble, moments: Moments, chosen: np.ndarray) -> Moments:
    """The step for the particles `chosen`, taken where it lowers the objective; the moments after."""
    problem, d, m, reg = field.problem, ensemble.d, ensemble.m, field.problem.reg(ensemble.step)
    if not reg > 0:
        return moments
    rows = take(ensemble, chosen)
    u, w = exact_math.row_norms(rows[:, :d]), exact_math.row_norms(rows[:, d:])
    works = (u > 0) & (w > 0)
    chosen, rows, u, w = chosen[works], rows[works], u[works], w[works]
    direction, v = rows[:, :d] / u[:, None], rows[:, d:] * (u / m)[:, None]
    active, weight = np.maximum(product(direction, problem.X.T), 0.0), u * w / (2 * reg * m)
    rest = moments.f - product(active.T, v)
    gates = Gates(problem.X, field.plain.inner, np.zeros_like(active), active, v, weight)
    balance = Balance(problem.loss, problem.targets, rest, Coupling.of(gates, field.engine.workers), 1.0)
    v = -weight[:, None] * product(active, balance.solution(field.residual(moments)))
    size = exact_math.row_norms(v)
    second = moments.second + 2 * exact_math.total(size) - exact_math.total(rows * rows) / m
    before = problem.evaluate(moments.f, moments.second, reg).value
    if not problem.evaluate(rest + product(active.T, v), second, reg).value < before:
        return moments
    scale = np.sqrt(m * size)
    w = v * (m / np.where(size > 0, scale, 1.0))[:, None]
    put(ensemble, chosen, np.concatenate([direction * scale[:, None], w], axis=1))
    return field.predict(ensemble)
