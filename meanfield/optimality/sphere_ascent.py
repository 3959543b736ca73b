"""Many-start ascent of ‖G_a(u)‖ on the unit sphere: where a residual pulls hardest. It only ever finds lower estimates.

G_a(u) = Σ_i a_i relu(u·x_i) is piecewise linear, and its maximizers often sit on kinks, where a gradient step sees
nothing. With v = G/‖G‖ and b_i = v·a_i, the function v·G = Σ_{b>0} b relu − Σ_{b<0} |b| relu is a difference of convex
functions. One step of the convex-concave procedure linearizes the first sum at u and maximizes the rest exactly:

    max_{‖u‖≤1} g·u − Σ_{b<0} |b_i| relu(u·x_i)  =  min_{0≤α≤1} ‖g − Σ_{b<0} |b_i| α_i x_i‖,

with g = Σ_{b>0, u·x>0} b_i x_i, a least-squares problem in a box, whose residual points to the maximizer, kinks (0 <
α_i < 1) included. Kinks of the first sum are valleys, never maxima, and a random start does not stay in one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from ..engine import noise
from ..engine.exact_algebra import product
from ..engine.exact_math import row_norms, row_sums
from ..runtime.compiling import compiled
from .budget import Budget

_CHUNK = 16  # starts a thread takes at a time, fewer where one takes long
_BATCH = 512  # starts between two looks at the budget, fewer likewise


class Peaks(NamedTuple):
    """Directions u (s, d) of unit norm and ‖G_a(u)‖ (s,) there, the highest first."""

    u: np.ndarray
    value: np.ndarray


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
def _climb_all(X, squares, a, U, values, passes, rounds, sweeps):  # type: ignore[no-untyped-def]
    n = X.shape[0]
    workspace = (np.empty(n), np.empty(n), np.empty(n), np.empty(a.shape[1]), np.empty(X.shape[1]))
    for s in range(U.shape[0]):
        values[s], passes[s] = _climb(X, squares, a, U[s], rounds, sweeps, workspace)


def pull(X: np.ndarray, a: np.ndarray, U: np.ndarray) -> np.ndarray:
    """‖G_a(u)‖ (s,) for the rows u of U (s, d)."""
    return row_norms(product(np.maximum(product(U, X.T), 0.0), a))


def climb(
    X: np.ndarray,
    a: np.ndarray,
    starts: np.ndarray,
    *,
    threads: int = 1,
    budget: Budget | None = None,
    rounds: int = 60,
    sweeps: int = 8,
) -> Peaks:
    """Ascend ‖G_a‖, X (n, d), a (n, C), float64, from the rows of `starts` (s, d), which need not have unit norm.

    Once the budget is over, the starts that remain are only evaluated; a few are climbed from in any case.
    """
    budget = budget or Budget()
    X, a = np.ascontiguousarray(X, np.float64), np.ascontiguousarray(a, np.float64)
    length = row_norms(starts)
    U = np.ascontiguousarray(starts[length > 0] / length[length > 0, None])
    values, passes, squares = np.zeros(len(U)), np.zeros(len(U), np.int64), row_sums(X * X)
    size = max(1, min(_CHUNK, 50_000 // X.size))
    batch = max(_CHUNK, min(_BATCH, 20_000_000 // X.size))
    first = 0
    budget.spend(1e6)
    with ThreadPoolExecutor(threads) as pool:
        while first < len(U):
            late = first > 0 and budget.over()
            last = len(U) if late else min(first + batch, len(U))

            def ascend(k: int, last: int = last, rounds: int = 0 if late else rounds) -> None:
                part = slice(k, min(k + size, last))
                _climb_all(X, squares, a, U[part], values[part], passes[part], rounds, sweeps)

            list(pool.map(ascend, range(first, last, size)))
            budget.spend(0.5 * len(X) * (X.shape[1] + 6) * int(passes[first:last].sum()))
            first = last
    order = np.argsort(-values, kind="stable")
    return Peaks(U[order], values[order])


def random_starts(X: np.ndarray, count: int, *, seed: int = 0, draw: int = 0) -> np.ndarray:
    """Directions (count, d) to climb from: half uniform, half sums of a few examples with random signs.

    A function of these arguments alone; another `draw` of the same seed is independent.
    """
    (n, d), half = X.shape, count // 2

    def normals(stream: int, rows: int, columns: int) -> np.ndarray:
        return noise.normals(seed, noise.Purpose.SEARCH, 4 * draw + stream, rows, columns, dtype="float64")

    words = noise.raw(seed, noise.Purpose.SEARCH, 4 * draw + 3, half).astype(np.int64)
    chosen, terms = (words[:3] * n) >> 32, 1 + ((words[3] * 3) >> 32)
    unit = X / np.maximum(row_norms(X), 1e-300)[:, None]
    mixed = np.zeros((half, d))
    for t, signs in enumerate(normals(1, half, 3).T):
        mixed = mixed + np.where(t < terms, signs, 0.0)[:, None] * unit[chosen[t]]
    mixed = mixed + (1e-3 / np.sqrt(d)) * row_norms(mixed)[:, None] * normals(2, half, d)
    return np.concatenate([normals(0, count - half, d), mixed])


@compiled
def _distinct(u, threshold, kept):  # type: ignore[no-untyped-def]
    """The first of the rows that have no u·u' of `threshold` or more with a row kept before; how many."""
    count = 0
    for s in range(u.shape[0]):
        if count == kept.shape[0]:
            break
        new = True
        for j in range(count):
            inner = 0.0
            for k in range(u.shape[1]):
                inner += u[kept[j], k] * u[s, k]
            if inner >= threshold:
                new = False
                break
        if new:
            kept[count] = s
            count += 1
    return count


def distinct(peaks: Peaks, limit: int, tolerance: float = 1e-7) -> Peaks:
    """The highest peaks, at most `limit`, no two of which have 1 − u·u' below `tolerance`."""
    kept = np.empty(limit, np.int64)
    kept = kept[: _distinct(np.ascontiguousarray(peaks.u), 1 - tolerance, kept)]
    return Peaks(peaks.u[kept], peaks.value[kept])
