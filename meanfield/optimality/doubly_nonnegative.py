"""A proven upper bound on max ‖G_a(u)‖ over the unit sphere, or over a cone of it: a doubly nonnegative relaxation.

With z = X u, p = relu(z) and q = relu(−z) the vector v = (p, q) is nonnegative and p_i q_i = 0. So vᵀMv ≥ 0 for every
symmetric M whose entries are nonnegative, but for the pairs (p_i, q_i), which are free. Everything is linear in
g = (u, h), h = p: v = W g, with q = h − X u, and G_a(u) = S g. If

    t ‖u‖² − ‖S g‖² − gᵀ Wᵀ M W g  is positive semidefinite in g,                                                  (1)

then ‖G_a(u)‖² ≤ t for every unit u. M alone is the proof: t follows from it by a Schur complement, and (1) is checked
by a Cholesky factorization. Where a row has a known sign, one of its p, q is ±x·u and the other 0: its h falls out of g
and its constraint becomes a linear one, which is how the sphere is cut (`sign_branching`). For C = 1 each sign of G is
bounded apart, and v has one more entry, ±G ≥ 0.

The best M is the dual of a program over Y = E[g gᵀ]: maximize ⟨SᵀS, Y⟩ over Y ⪰ 0 with Z = W Y Wᵀ ≥ 0, Z = 0 at the
pairs and tr Y_uu fixed. It is found by alternating projections with multipliers (ADMM), Z in one block and Y in the
other: one eigendecomposition of the size of g each step. How tight it is depends on the data; the maximum is NP-hard
to find in general. Doubly nonnegative relaxations of completely positive programs: Burer, Math. Program. 120 (2009);
of training a ReLU network, in its primal: Prakhya, Birdal and Yurtsever, arXiv 2410.22311.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..runtime.compiling import compiled
from .rows import Rows

_SIGMA, _RELAXED = 10.0, 1.6  # of ADMM, for objective and Z of size 1: how far from the best one hardly matters
_UNIT = 0.55  # of a cell's scale: what ADMM measures G in
_CHUNK = 25  # steps between two looks at the bound
_STEPS = 500
_LIFTS = np.append(0.0, np.geomspace(1e-8, 1.0, 17))
_EPS = float(np.finfo(float).eps)


@dataclass(frozen=True)
class Cell:
    """The unit vectors at which some rows have known signs, as linear functions of g = (u, h).

    Attributes
    ----------
    signs : int8 array (n,)
        ±1 where u·x_i is known to be ≥ 0 or ≤ 0, else 0.
    side : int
        ±1: where ±G ≥ 0, for C = 1; 0 for the whole cell.
    W : array (N, d + k)
        v = W g ≥ 0; its first 2k entries are (p, q) of the k rows of unknown sign.
    S : array (C, d + k)
        G = S g.
    labels : int array (N,)
        What each entry of v is: i for p_i, n + i for q_i, 2n for ±G.
    d, pairs : int
        The size of u, and k.
    scale : float
        Of G: Σ ‖weights‖², square-rooted.
    """

    signs: np.ndarray
    side: int
    W: np.ndarray
    S: np.ndarray
    labels: np.ndarray
    d: int
    pairs: int
    scale: float

    @classmethod
    def of(cls, rows: Rows, side: int, signs: np.ndarray) -> Cell:
        """The cell of effective rows whose signs (n,), where not 0, are these."""
        X, up, down = rows.X, rows.up, rows.down
        (n, d), mixed = X.shape, np.flatnonzero(signs == 0)
        above, below, k = np.flatnonzero(signs > 0), np.flatnonzero(signs < 0), len(mixed)
        W = np.zeros((2 * k + n - k, d + k))
        W[:k, d:] = W[k : 2 * k, d:] = np.eye(k)
        W[k : 2 * k, :d] = -X[mixed]
        W[2 * k : 2 * k + len(above), :d] = X[above]
        W[2 * k + len(above) :, :d] = -X[below]
        S = np.zeros((up.shape[1], d + k))
        S[:, :d] = up[above].T @ X[above] - down[below].T @ X[below] - down[mixed].T @ X[mixed]
        S[:, d:] = (up + down)[mixed].T
        scale = float(np.sqrt(np.sum(up * up) + np.sum(down * down)))
        labels = np.concatenate([mixed, n + mixed, above, n + below])
        if side:
            W, labels = np.concatenate([W, side * S / scale]), np.append(labels, 2 * n)
        return cls(signs, side, W, S, labels, d, k, scale)

    def inherited(self, parent: Cell, *arrays: np.ndarray) -> list[np.ndarray]:
        """Arrays (N, N) of a cell that holds this one, where their entries of v are left."""
        place = np.full(2 * len(self.signs) + 1, -1)
        place[parent.labels] = np.arange(len(parent.labels))
        at = place[self.labels]
        return [np.ascontiguousarray(one[np.ix_(at, at)]) for one in arrays]

    def admissible(self, M: np.ndarray) -> np.ndarray:
        """The nearest symmetric M with entries ≥ 0, but for the pairs."""
        M, k = 0.5 * (M + M.T), np.arange(self.pairs)
        clipped = np.maximum(M, 0.0)
        clipped[k, k + self.pairs], clipped[k + self.pairs, k] = M[k, k + self.pairs], M[k + self.pairs, k]
        return clipped


def proven_pull(cell: Cell, M: np.ndarray) -> tuple[float, np.ndarray]:
    """An upper bound on ‖S g‖ over the unit u of a cell from any M (N, N), rounding included, and the M of its proof.

    The pairs of M are lowered together as far as the Schur complement wants it: p_i q_i = 0, so that costs nothing.
    """
    M, d, k = cell.admissible(M), cell.d, np.arange(cell.pairs)
    Q = cell.S.T @ cell.S + cell.W.T @ M @ cell.W
    lift, t = _lifted(Q, cell.W[cell.pairs : 2 * cell.pairs, :d], cell.scale)
    M[k, k + cell.pairs] -= lift
    M[k + cell.pairs, k] -= lift
    return float(np.sqrt(max(0.0, _checked(cell, M, t)))) * (1 + 2 * _EPS), M


def _lifted(Q: np.ndarray, minus_X: np.ndarray, scale: float) -> tuple[float, float]:
    """How far to lower the pairs of M, and the least t of (1) then: λmax of the Schur complement in h."""
    d = Q.shape[0] - len(minus_X)
    if not len(minus_X):
        return 0.0, float(np.linalg.eigvalsh(Q)[-1])
    values, vectors = np.linalg.eigh(-Q[d:, d:])
    cross, more = Q[:d, d:] @ vectors, -minus_X.T @ vectors
    best = (0.0, np.inf)
    for lift in _LIFTS * scale**2:
        below = values + 2 * lift
        if below[0] > 1e-13 * scale**2:
            edge = cross + lift * more
            t = float(np.linalg.eigvalsh(Q[:d, :d] + (edge / below) @ edge.T)[-1])
            best = min(best, (lift, t), key=lambda one: one[1])
    return best if np.isfinite(best[1]) else (float(-values[0] + scale**2), np.inf)


def _checked(cell: Cell, M: np.ndarray, t: float) -> float:
    """The least t near this one for which (1) is proven with M as it is; inf if there is none.

    In floating point a Cholesky factorization that succeeds proves A + c I ⪰ 0, c = γ/(1 − γ) tr A with γ of r + 1
    roundings (Rump, BIT 46, 2006), whatever the order of its sums. What that and the rounding of (1)'s entries leave,
    −e ‖g‖², is made up for by e ‖u‖² (1 + Σ ‖x_i‖²), for ‖h‖² ≤ Σ ‖x_i‖² ‖u‖².
    """
    W, S, d, r = cell.W, cell.S, cell.d, cell.W.shape[1]
    Q = S.T @ S + W.T @ M @ W
    terms = 2 * len(W) + r + len(S) + 10
    formed = 2 * terms * _EPS * float(np.linalg.norm(np.abs(S).T @ np.abs(S) + np.abs(W).T @ np.abs(M) @ np.abs(W)))
    reach = 1 + float(np.sum(W[cell.pairs : 2 * cell.pairs, :d] ** 2)) * (1 + 1e-12)
    shift = 1e-15 * max(abs(t) + float(np.abs(Q).max()), cell.scale**2)
    while np.isfinite(t) and np.isfinite(formed) and shift < 1e3 * (cell.scale**2 + t):
        A = -Q
        A[np.arange(d), np.arange(d)] += t
        A[np.arange(r), np.arange(r)] += shift
        trace = float(np.abs(np.diag(A)).sum())
        try:
            np.linalg.cholesky(A)
        except np.linalg.LinAlgError:
            shift *= 4
            continue
        rest = shift + formed + 2 * (r + 4) * _EPS * (trace + abs(t))
        return (t + rest * reach) * (1 + 4 * _EPS)
    return np.inf


@compiled
def _iterate(U, objective, T, Z, L, pairs, tau, total):  # type: ignore[no-untyped-def]
    """_CHUNK steps of ADMM on Z, its multipliers L and that of the trace, τ, in place; τ and the last Y's factors."""
    N = Z.shape[0]
    A, values, vectors = np.empty_like(Z), np.empty(0), np.empty((0, 0))
    for _ in range(_CHUNK):
        for i in range(N):
            for j in range(N):
                A[i, j] = Z[i, j] - L[i, j] / _SIGMA
        G = U.T @ (A @ U) + objective / _SIGMA
        values, vectors = np.linalg.eigh(0.5 * (G + G.T))
        first = np.searchsorted(values, 0.0)
        values, vectors = values[first:].copy(), np.ascontiguousarray(vectors[:, first:])
        V = U @ vectors
        F = (V * values) @ V.T
        for i in range(N):
            for j in range(N):
                A[i, j] = _RELAXED * F[i, j] + (1 - _RELAXED) * Z[i, j] + L[i, j] / _SIGMA
        tau = _trace_multiplier(A, T, pairs, tau, total)
        for i in range(N):
            for j in range(N):
                pair = (i < pairs and j == i + pairs) or (j < pairs and i == j + pairs)
                Z[i, j] = 0.0 if pair else max(A[i, j] + tau * T[i, j], 0.0)
                L[i, j] = _SIGMA * (A[i, j] - Z[i, j])
    return tau, values, vectors


@compiled
def _trace_multiplier(A, T, pairs, tau, total):  # type: ignore[no-untyped-def]
    """τ with ⟨T, max(A + τT, 0)⟩ = total over the entries that are no pairs, by Newton from the last one."""
    N = A.shape[0]
    for _ in range(30):
        g, slope = -total, 1e-12
        for i in range(N):
            for j in range(N):
                pair = (i < pairs and j == i + pairs) or (j < pairs and i == j + pairs)
                z = A[i, j] + tau * T[i, j]
                if z > 0 and not pair:
                    g += T[i, j] * z
                    slope += T[i, j] * T[i, j]
        tau -= g / slope
        if abs(g) <= 1e-10 * slope * (1 + abs(tau)):
            break
    return tau


@dataclass
class Relaxed:
    """The relaxation of a cell as far as it was solved.

    Attributes
    ----------
    cell : Cell
    bound : float
        Proven: no ‖G(u)‖ of the cell is higher, rows' error aside.
    M : array (N, N)
        Its proof.
    value : float
        An estimate of the relaxation's own value, the least that `bound` could become.
    steps : int
    Z, L : arrays (N, N)
        Where to go on.
    u : array (d,)
        The direction that the relaxation favours.
    """

    cell: Cell
    bound: float
    M: np.ndarray
    value: float
    steps: int
    Z: np.ndarray
    L: np.ndarray
    u: np.ndarray

    def open_rows(self, weight: np.ndarray) -> np.ndarray:
        """How much each row's sign is in doubt (n,), times its weight: −1 where it is known."""
        mixed, k, spread = self.cell.labels[: self.cell.pairs], self.cell.pairs, np.diag(self.Z)
        doubt = np.full(len(self.cell.signs), -1.0)
        doubt[mixed] = weight[mixed] * np.minimum(spread[:k], spread[k : 2 * k])
        return doubt


def relax(
    cell: Cell,
    level: float,
    parent: Relaxed | None = None,
    *,
    steps: int = _STEPS,
    slack: float = 0.2,
    late: Callable[[], bool] | None = None,
) -> Relaxed:
    """Bound ‖G‖ over a cell, until the bound is at most `level` or no further step could bring it there.

    Begins where a parent's relaxation ended. "No further step": the bound hardly moves, and of what it is above the
    level only a part, `slack`, is above the relaxation's own value. `late` is asked now and then whether to stop at
    once.
    """
    U, R = np.linalg.qr(cell.W)
    back = np.linalg.inv(R)
    unit = _UNIT * cell.scale
    S = cell.S @ back / unit
    T = U @ (back[: cell.d].T @ back[: cell.d]) @ U.T
    size = float(np.linalg.norm(T))
    T, total = T / size, cell.d / len(cell.signs) / size
    best, proof, Z, L = np.inf, np.zeros_like(T), U @ U.T / U.shape[1], np.zeros_like(T)
    if parent is not None:
        M, Z, L = cell.inherited(parent.cell, parent.M, parent.Z, parent.L)
        best, proof = proven_pull(cell, M)
    tau, done, value, u = -(level**2) / unit**2 * size / _SIGMA, 0, np.inf, np.zeros(cell.d)
    while done < steps and best > level and not (late is not None and late()):
        tau, values, vectors = _iterate(U, S.T @ S, T, Z, L, cell.pairs, tau, total)
        done += _CHUNK
        bound, M = proven_pull(cell, -(L + _SIGMA * tau * T) * unit**2)
        slow = best - bound < 0.05 * (min(best, bound) - level)
        if bound < best:
            best, proof = bound, M
        value = unit * np.sqrt(float(np.sum(values * (S @ vectors) ** 2)) / (total * size))
        if len(values):
            u = np.linalg.svd((back[: cell.d] @ vectors) * np.sqrt(values), full_matrices=False)[0][:, 0]
        if slow and value > level and abs(best - value) < slack * (best - level):
            break
    return Relaxed(cell, best, proof, value, done, Z, L, u)


def step_work(N: int, r: int) -> float:
    """Of one step of a cell whose W is (N, r), in about nanoseconds of one core: eigenvectors, products, passes."""
    return 1e5 + 0.32 * r**3 + 30.0 * r**2 + 0.04 * (N * N * r + N * r * r) + 12.0 * N * N


__all__ = ["Cell", "Relaxed", "proven_pull", "relax", "step_work"]
