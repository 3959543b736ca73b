"""The automatic step size: η = s / (κ B + P + 2λ), each term a bound on a part of the objective's curvature.

The curvature is that in the space of measures. B = (1/n) Σ ℓ''_i ‖x_i‖² ∫‖θ‖² dρ (`curvature_bound`) bounds the
coupling of the particles; κ ≤ 1 (`curvature_ratio`, re-estimated at powers of two and every 50 steps, remembered
between) corrects it to the top eigenvalue of the tangent kernel; P ≥ ‖Σ r_i 1[·] x_iᵀ‖ (`pull_bound`) bounds the pull
on one particle; 2λ is the ℓ2 term's; s is `safety`. So η depends on the state alone and follows a rescaling of the
features. An estimate, not a guarantee: kinks have no curvature bound.

For another neuron than the relu B is no bound but a yardstick, so that κ may be above 1, and P grows with the largest
|φ'| and |φ''| that particles are likely to meet (`single_pull`).
"""

from __future__ import annotations

import math

import numpy as np

from ..engine import exact_math, noise
from ..engine.engine import BLOCK, Moments, Move
from ..ensemble import Ensemble
from ..schedules import Schedule
from .field import Field

_REACH = 4.0  # root mean square norms of a particle within which |u·x| is looked for


def safety(reg: Schedule, k: int) -> float:
    """The automatic step as a fraction s of 1/(curvature); stability needs less than 2.

    Particles that come to rest on a kink step over it and back, which costs the objective a part linear in η. So the
    fraction is 5/4 while λ is being lowered, and falls like 1/k after that, the steps of a subgradient method; under a
    constant λ it is ¼ throughout.
    """
    if reg.steps == 0:
        return 0.25
    rest = reg.steps / 50
    return 1.25 * rest / (rest + max(0, k - reg.steps))


def curvature_bound(field: Field, moments: Moments) -> float:
    """B = (1/n) Σ ℓ''_i ‖x_i‖² ∫‖θ‖² dρ: bounds the curvature that particles feel through the residual."""
    norms, _ = field.norms
    weights = field.problem.loss.curvature(moments.f, field.problem.targets) / field.problem.n
    return exact_math.total(weights * norms * norms) * moments.second * field.problem.output_scale**2


def pull_bound(field: Field, residual: np.ndarray) -> float:
    """P ≥ ‖Σ_i r_i 1[u·x_i > 0] x_iᵀ‖ over all u, of r (n, C): the curvature of ⟨r, Φ⟩ for a single particle."""
    norms, spectral = field.norms
    sizes = exact_math.row_norms(residual)
    return min(exact_math.total(sizes * norms), exact_math.norm(sizes) * spectral)


def single_pull(field: Field, moments: Moments, residual: np.ndarray) -> float:
    """P of any neuron: max|φ'| `pull_bound` + max|φ''| s Σ_i ‖r_i‖‖x_i‖², s = (∫‖θ‖² dρ)^½, |u·x| ≤ 4 s max‖x‖.

    Of ψ(w) φ(u·x) that is times max|ψ'|, and max|ψ''| max|φ| Σ_i ‖r_i‖ is added.
    """
    neuron, (norms, _) = field.problem.neuron, field.norms
    if neuron.is_relu:
        return pull_bound(field, residual)
    size = math.sqrt(moments.second)
    reach, sizes = max(1e-6, _REACH * size * float(norms.max())), exact_math.row_norms(residual)
    steep, bend = neuron.steepness(reach)
    curved = exact_math.total(sizes * norms * norms)
    pull = steep * pull_bound(field, residual) + bend * size * curved
    if neuron.output is None:
        return pull
    steep_w, bend_w = neuron.output.steepness(max(1e-6, _REACH * size))
    return steep_w * pull + bend_w * float(np.abs(neuron.evaluate([reach, -reach])[0]).max()) * exact_math.total(sizes)


def curvature_ratio(field: Field, ensemble: Ensemble, moments: Moments, *, iterations: int = 8) -> float:
    """κ: the top eigenvalue of D^½ K D^½ over `curvature_bound`, D = diag(ℓ''_i)/n and K the tangent kernel of ρ.

    Power iteration, K v as the change of the predictions when particles move a little along −∇⟨v, Φ⟩; an estimate
    (from below, and from the first particles only: K is a mean over particles), a pure function of the ensemble.
    """
    bound, problem = curvature_bound(field, moments), field.problem
    particles = ensemble.head(2 * BLOCK)
    weights = (problem.loss.curvature(moments.f, problem.targets) / problem.n)[:, None]
    engine = field.engine.beside()
    f = engine.predict(particles).f
    v = noise.normals(0, 0, 0, f.size, 1, dtype="float64").reshape(f.shape)
    top = 0.0
    for _ in range(iterations):
        v /= exact_math.norm(v)
        nudge = 1e-2 / max(problem.output_scale * pull_bound(field, v), 1e-300)
        moved = engine.advance(particles.copy(), v, Move(0.0, nudge), 0, 0)
        Kv = (f - moved.f) / nudge
        along = exact_math.total(v * Kv)
        if not along > 0:
            break
        top = exact_math.total(Kv * weights * Kv) / along
        v = weights * Kv
        if not exact_math.norm(v) > 0:
            break
    if not (bound > 0 and top > 0):
        return 1.0
    return min(1.0, top / bound) if problem.neuron.is_relu else top / bound


def automatic(field: Field, ensemble: Ensemble, moments: Moments, residual: np.ndarray) -> float:
    """η at this state, under the residual r (n, C); κ is kept in the ensemble's memory."""
    k, reg, memory = ensemble.step, field.problem.reg, ensemble.memory
    if "curvature_ratio" not in memory or k % 50 == 0 or (k < 50 and k & (k - 1) == 0):
        memory["curvature_ratio"] = curvature_ratio(field, ensemble, moments)
    coupling = memory["curvature_ratio"] * curvature_bound(field, moments)
    pull = field.problem.output_scale * single_pull(field, moments, residual)
    return safety(reg, k) / (coupling + pull + field.problem.penalty.curvature(moments.second) * reg(k))
