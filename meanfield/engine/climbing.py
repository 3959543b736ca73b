"""Ascent of ‖G_a(u)‖ on the unit sphere: where a residual pulls hardest, nearby.

G_a(u) = Σ_i a_i relu(u·x_i) is piecewise linear, and its maximizers often sit on kinks, where a gradient step sees
nothing. With v = G/‖G‖ and b_i = v·a_i, the function v·G = Σ_{b>0} b relu − Σ_{b<0} |b| relu is a difference of convex
functions. One step of the convex-concave procedure linearizes the first sum at u and maximizes the rest exactly:

    max_{‖u‖≤1} g·u − Σ_{b<0} |b_i| relu(u·x_i)  =  min_{0≤α≤1} ‖g − Σ_{b<0} |b_i| α_i x_i‖,

with g = Σ_{b>0, u·x>0} b_i x_i, a least-squares problem in a box, whose residual points to the maximizer, kinks (0 <
α_i < 1) included. Kinks of the first sum are valleys, never maxima, and a random start does not stay in one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from ..runtime.compiling import compiled
from .microkernels import take_ticket


@register_jitable
def _square(p: Any) -> Any:
    """‖p‖²."""
    s = 0.0
    for k in range(p.shape[0]):
        s += p[k] * p[k]
    return s


@register_jitable
def _pull(X: Any, a: Any, u: Any, z: Any, v: Any) -> Any:
    """z ← X u, v ← G_a(u)/‖G_a(u)‖; returns ‖G_a(u)‖."""
    v[:] = 0.0
    for i in range(X.shape[0]):
        s = 0.0
        for k in range(X.shape[1]):
            s += X[i, k] * u[k]
        z[i] = s
        if s > 0:
            for c in range(a.shape[1]):
                v[c] += a[i, c] * s
    norm = np.sqrt(_square(v))
    if norm > 0:
        for c in range(a.shape[1]):
            v[c] /= norm
    return norm


@register_jitable
def _box_least_squares(X: Any, squares: Any, b: Any, alpha: Any, p: Any, sweeps: Any) -> Any:
    """p ← p − Σ |b_i| α_i x_i over b_i < 0, made shortest over 0 ≤ α ≤ 1 by coordinate descent from `alpha`.

    Returns how many sweeps that took.
    """
    n, d = X.shape
    for i in range(n):
        if b[i] < 0 and alpha[i] > 0:
            for k in range(d):
                p[k] += b[i] * alpha[i] * X[i, k]
    for done in range(sweeps):
        moved = 0.0
        for i in range(n):
            if b[i] < 0 and squares[i] > 0:
                s = 0.0
                for k in range(d):
                    s += X[i, k] * p[k]
                new = min(1.0, max(0.0, alpha[i] - s / (b[i] * squares[i])))
                change = b[i] * (new - alpha[i])
                if change != 0.0:
                    for k in range(d):
                        p[k] += change * X[i, k]
                    alpha[i] = new
                    moved += change * change * squares[i]
        if moved <= 1e-24 * _square(p):
            return done + 1
    return sweeps


@register_jitable
def _convex_part(X: Any, a: Any, z: Any, v: Any, b: Any, p: Any) -> None:
    """b_i ← v·a_i, p ← Σ b_i x_i over b_i > 0, z_i > 0."""
    p[:] = 0.0
    for i in range(X.shape[0]):
        s = 0.0
        for c in range(a.shape[1]):
            s += a[i, c] * v[c]
        b[i] = s
        if s > 0 and z[i] > 0:
            for k in range(X.shape[1]):
                p[k] += s * X[i, k]


@register_jitable
def _climb(X: Any, squares: Any, a: Any, u: Any, rounds: Any, sweeps: Any, workspace: Any) -> Any:
    """Ascend from u in place; the value reached and the passes over X. Never ends below where it began.

    The workspace holds z, b and α (n,), v (C,) and p (d,).
    """
    z, b, alpha, v, p = workspace
    best, at, passes = _pull(X, a, u, z, v), u.copy(), 1
    for i in range(X.shape[0]):
        alpha[i] = 1.0 if z[i] > 0 else 0.0
    idle = 0
    for _ in range(rounds):
        _convex_part(X, a, z, v, b, p)
        passes += 3 + _box_least_squares(X, squares, b, alpha, p, sweeps)
        norm = np.sqrt(_square(p))
        if not norm > 0:
            break
        for k in range(X.shape[1]):
            at[k] = p[k] / norm
        value = _pull(X, a, at, z, v)
        idle = idle + 1 if value <= best * (1 + 1e-9) else 0
        if value > best:
            best = value
            u[:] = at
        if idle == 2:
            break
    return best, passes


@compiled
def climb_all(X, squares, a, U, values, passes, rounds, sweeps):  # type: ignore[no-untyped-def]
    n = X.shape[0]
    workspace = (np.empty(n), np.empty(n), np.empty(n), np.empty(a.shape[1]), np.empty(X.shape[1]))
    for s in range(U.shape[0]):
        values[s], passes[s] = _climb(X, squares, a, U[s], rounds, sweeps, workspace)


class Hill(NamedTuple):
    """What is climbed: inputs X (n, d), their ‖x_i‖² (n,), and a (n, C), all float64."""

    X: np.ndarray
    squares: np.ndarray
    a: np.ndarray


@compiled
def climb_shared(hill, U, values, rounds, sweeps, ticket, limbs):  # type: ignore[no-untyped-def]
    """As `climb_all`, each thread the starts that it takes; `limbs` are not used."""
    X, squares, a = hill.X, hill.squares, hill.a
    n = X.shape[0]
    workspace = (np.empty(n), np.empty(n), np.empty(n), np.empty(a.shape[1]), np.empty(X.shape[1]))
    s = take_ticket(ticket)
    while s < U.shape[0]:
        values[s], _ = _climb(X, squares, a, U[s], rounds, sweeps, workspace)
        s = take_ticket(ticket)


__all__ = ["Hill", "climb_all", "climb_shared"]
