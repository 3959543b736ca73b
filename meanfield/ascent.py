"""Many-start ascent of ‖G_a(u)‖ on the unit sphere: where a residual pulls hardest. It only ever finds lower estimates.

G_a(u) = Σ_i a_i relu(u·x_i) is piecewise linear, and its maximizers often sit on kinks, where a gradient step sees
nothing. With v = G/‖G‖ and b_i = v·a_i, the function v·G = Σ_{b>0} b relu − Σ_{b<0} |b| relu is a difference of convex
functions. One step of the convex-concave procedure linearizes the first sum at u and maximizes the rest exactly:

    max_{‖u‖≤1} g·u − Σ_{b<0} |b_i| relu(u·x_i)  =  min_{0≤α≤1} ‖g − Σ_{b<0} |b_i| α_i x_i‖,

with g = Σ_{b>0, u·x>0} b_i x_i, a least-squares problem in a box, whose residual points to the maximizer, kinks (0 <
α_i < 1) included. Kinks of the first sum are valleys, never maxima, and a random start does not stay in one.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from .compiling import compiled

_CHUNK = 16  # starts a thread takes at a time, fewer where one takes long


class Peaks(NamedTuple):
    """Directions u (s, d) of unit norm and ‖G_a(u)‖ (s,) there, the highest first."""

    u: np.ndarray
    value: np.ndarray


@register_jitable
def _pull(X: Any, a: Any, u: Any, z: Any, v: Any) -> Any:
    """z ← X u, v ← G_a(u)/‖G_a(u)‖; returns ‖G_a(u)‖."""
    v[:] = 0
    for i in range(X.shape[0]):
        s = 0.0
        for k in range(X.shape[1]):
            s += X[i, k] * u[k]
        z[i] = s
        if s > 0:
            for c in range(a.shape[1]):
                v[c] += a[i, c] * s
    norm = np.sqrt(np.sum(v * v))
    if norm > 0:
        v /= norm
    return norm


@register_jitable
def _box_least_squares(X: Any, squares: Any, b: Any, alpha: Any, p: Any, sweeps: Any) -> None:
    """p ← p − Σ |b_i| α_i x_i over b_i < 0, made shortest over 0 ≤ α ≤ 1 by coordinate descent from `alpha`."""
    n, d = X.shape
    for i in range(n):
        if b[i] < 0 and alpha[i] > 0:
            for k in range(d):
                p[k] += b[i] * alpha[i] * X[i, k]
    for _ in range(sweeps):
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
        if moved <= 1e-24 * np.sum(p * p):
            break


@register_jitable
def _climb(X: Any, squares: Any, a: Any, u: Any, rounds: Any, sweeps: Any, work: Any, v: Any, p: Any) -> Any:
    """Ascend from u in place; the value reached. Never ends below where it began."""
    n, d = X.shape
    z, b, alpha = work[0], work[1], work[2]
    best, at = _pull(X, a, u, z, v), u.copy()
    for i in range(n):
        alpha[i] = 1.0 if z[i] > 0 else 0.0
    idle = 0
    for _ in range(rounds):
        p[:] = 0
        for i in range(n):
            b[i] = np.sum(a[i] * v)
            if b[i] > 0 and z[i] > 0:
                for k in range(d):
                    p[k] += b[i] * X[i, k]
        _box_least_squares(X, squares, b, alpha, p, sweeps)
        norm = np.sqrt(np.sum(p * p))
        if not norm > 0:
            break
        at[:] = p / norm
        value = _pull(X, a, at, z, v)
        idle = idle + 1 if value <= best * (1 + 1e-9) else 0
        if value > best:
            best = value
            u[:] = at
        if idle == 2:
            break
    return best


@compiled
def _climb_all(X, squares, a, U, values, rounds, sweeps):  # type: ignore[no-untyped-def]
    work, v, p = np.empty((3, X.shape[0])), np.empty(a.shape[1]), np.empty(X.shape[1])
    for s in range(U.shape[0]):
        values[s] = _climb(X, squares, a, U[s], rounds, sweeps, work, v, p)


def pull(X: np.ndarray, a: np.ndarray, U: np.ndarray) -> np.ndarray:
    """‖G_a(u)‖ (s,) for the rows u of U (s, d)."""
    return np.linalg.norm(np.maximum(U @ X.T, 0.0) @ a, axis=1)


def climb(
    X: np.ndarray, a: np.ndarray, starts: np.ndarray, *, threads: int = 1, until: float = np.inf,
    rounds: int = 60, sweeps: int = 8,
) -> Peaks:  # fmt: skip
    """Ascend ‖G_a‖, X (n, d), a (n, C), float64, from the rows of `starts` (s, d), which need not have unit norm.

    Once time.monotonic() has passed `until`, the starts that remain are only evaluated.
    """
    length = np.linalg.norm(starts, axis=1)
    U = np.ascontiguousarray(starts[length > 0] / length[length > 0, None])
    values, squares = np.zeros(len(U)), np.einsum("ik,ik->i", X, X)
    X, a = np.ascontiguousarray(X), np.ascontiguousarray(a)

    size = max(1, min(_CHUNK, 50_000 // X.size))

    def chunk(first: int) -> None:
        part = slice(first, first + size)
        late = first > 0 and time.monotonic() > until
        _climb_all(X, squares, a, U[part], values[part], 0 if late else rounds, sweeps)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(chunk, range(0, len(U), size)))
    order = np.argsort(-values, kind="stable")
    return Peaks(U[order], values[order])


def random_starts(X: np.ndarray, a: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Directions (count, d) to climb from: half uniform, half sums of a few examples with random signs."""
    n, d = X.shape
    half = count // 2
    uniform = rng.standard_normal((count - half, d))
    chosen = rng.integers(n, size=(half, 3))
    signs = rng.standard_normal((half, 3)) * (np.arange(3) < rng.integers(1, 4, size=(half, 1)))
    size = np.maximum(np.linalg.norm(X, axis=1), 1e-300)
    mixed = np.einsum("st,stk->sk", signs, X[chosen] / size[chosen][..., None])
    mixed += 1e-3 * np.linalg.norm(mixed, axis=1, keepdims=True) * rng.standard_normal((half, d)) / np.sqrt(d)
    return np.concatenate([uniform, mixed])


def distinct(peaks: Peaks, limit: int, tolerance: float = 1e-7) -> Peaks:
    """The highest peaks, at most `limit`, no two of which have 1 − u·u' below `tolerance`."""
    kept: list[int] = []
    for s in range(len(peaks.u)):
        if len(kept) == limit:
            break
        if not kept or np.max(peaks.u[kept] @ peaks.u[s]) < 1 - tolerance:
            kept.append(s)
    return Peaks(peaks.u[kept], peaks.value[kept])
