"""Upper bounds on max ‖G_a(u)‖ over the unit sphere by branching along the hyperplanes x_i·u = 0, rounding included.

The sphere is covered by simplicial cones, first the orthants. In a cone with rays v_k, an example whose u·x_i keeps its
sign is linear; for one that changes it, relu lies between its chord and a line through 0, so that

    ‖G_a(Σ t_k v_k)‖ ≤ Σ t_k L_k  for t ≥ 0   (L_k: the norm or signed value at v_k, plus half the mixed ones' widths),

and every p with v_k·p ≥ L_k for all k bounds it by ‖p‖ on the unit vectors of the cone (linear programming duality
with a norm). Cones whose bound does not exceed the best value known are dropped, the others split across their longest
edge, where a hyperplane crosses it if one does. A cone inside one cell of the arrangement has no mixed example left:
cells that could hold the maximum are enumerated, the others never. An edge is as long as the examples see it, so that
inputs of a large mean or of unlike scales are cut where their hyperplanes are. Affordable in effective dimension up to
3 for thousands of examples, 4 to 5 for tens; stopped early, the highest bound still open is a proven one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba.extending import register_jitable

from ..runtime.compiling import compiled
from .budget import Budget
from .rows import effective_rows, nothing_left
from .sphere_bound import SphereBound

MAX_DIMENSION = 8
_CHUNK = 64  # cones a thread takes at a time
_LIMIT = 20_000  # cones split in one go, fewer where one takes long
_WORK = 5e9
_FLAT = 1e-12  # of the metric, in directions that hardly any example tells apart
_EPS = float(np.finfo(float).eps)


@register_jitable
def _dot(p: Any, q: Any) -> Any:
    s = 0.0
    for j in range(p.shape[0]):
        s += p[j] * q[j]
    return s


@register_jitable
def vertex_bounds(X: Any, a: Any, sign: Any, V: Any, z: Any, B: Any, L: Any) -> None:
    """L_k of the cone with the rows of V as rays; `sign` ±1 for C = 1 (that sign of G alone), else 0."""
    k, C = V.shape[0], a.shape[1]
    B[:] = 0
    L[:] = 0
    for i in range(X.shape[0]):
        above, below = 0.0, 0.0
        for r in range(k):
            s = 0.0
            for j in range(k):
                s += V[r, j] * X[i, j]
            z[r] = s
            above += max(s, 0.0)
            below += max(-s, 0.0)
        if above == 0.0:
            continue
        slope = above / (above + below)
        size = np.sqrt(_dot(a[i], a[i]))
        for r in range(k):
            chord, line = max(z[r], 0.0), slope * z[r]
            for c in range(C):
                B[r, c] += a[i, c] * 0.5 * (chord + line)
            L[r] += size * 0.5 * (chord - line)
    for r in range(k):
        if sign != 0:
            L[r] += sign * B[r, 0]
        else:
            L[r] += np.sqrt(_dot(B[r], B[r]))


@register_jitable
def _stretched(V: Any, L: Any, p: Any) -> Any:
    """‖p‖ after stretching p until v_k·p ≥ L_k for all k; inf where no stretching will do."""
    most = 0.0
    for r in range(V.shape[0]):
        if L[r] > 0:
            s = _dot(V[r], p)
            if not s > 0:
                return np.inf
            most = max(most, L[r] / s)
    return most * np.sqrt(_dot(p, p))


@register_jitable
def _solve(V: Any, L: Any, M: Any, p: Any) -> Any:
    """p with V p = L by elimination with pivoting; False if V is singular. M is workspace (k, k + 1)."""
    k = V.shape[0]
    M[:, :k] = V
    M[:, k] = L
    for j in range(k):
        pivot = j
        for r in range(j + 1, k):
            if abs(M[r, j]) > abs(M[pivot, j]):
                pivot = r
        if M[pivot, j] == 0:
            return False
        for q in range(k + 1):
            M[j, q], M[pivot, q] = M[pivot, q], M[j, q]
        for r in range(j + 1, k):
            factor = M[r, j] / M[j, j]
            for q in range(j, k + 1):
                M[r, q] -= factor * M[j, q]
    for j in range(k - 1, -1, -1):
        s = M[j, k]
        for q in range(j + 1, k):
            s -= M[j, q] * p[q]
        p[j] = s / M[j, j]
    return True


@register_jitable
def _cone_bound(V: Any, L: Any, M: Any, p: Any) -> Any:
    """The least ‖p‖ over a few p with V p ≥ L: each is a valid bound, so the choice needs no proof."""
    k = V.shape[0]
    top = np.argmax(L)
    if not L[top] > 0:
        return 0.0
    p[:] = V[top]
    best = _stretched(V, L, p)
    for j in range(k):
        p[j] = np.sum(V[:, j])
    best = min(best, _stretched(V, L, p))
    if _solve(V, L, M, p) and np.all(np.isfinite(p)):
        best = min(best, _stretched(V, L, p))
        for r in range(k):  # between the solution and each ray: for maxima on faces
            size = np.sqrt(_dot(p, p))
            if size > 0:
                best = min(best, _stretched(V, L, p / size + 2 * V[r]))
    return best


@register_jitable
def split_point(X: Any, V: Any, M: Any, point: Any) -> Any:
    """The ends (p, q) of the edge longest by M; point ← where an example changes sign on that edge, or its middle."""
    k, p, q, closest = V.shape[0], 0, 1, 2.0
    W, size = V @ M, np.empty(k)
    for r in range(k):
        size[r] = np.sqrt(_dot(W[r], V[r]))
    for r in range(k):
        for s in range(r):
            inner = _dot(W[r], V[s]) / (size[r] * size[s])
            if inner < closest:
                closest, p, q = inner, r, s
    share = size[p] / (size[p] + size[q])
    nearest = 0.35
    for i in range(X.shape[0]):
        zp, zq = _dot(X[i], V[p]), _dot(X[i], V[q])
        if (zp > 0 and zq < 0) or (zp < 0 and zq > 0):
            at = zp / (zp - zq)
            far = abs(at * size[q] / ((1 - at) * size[p] + at * size[q]) - 0.5)
            if far < nearest:
                nearest, share = far, at
    point[:] = (1 - share) * V[p] + share * V[q]
    point /= np.sqrt(_dot(point, point))
    return p, q


@compiled
def _branch(X, a, M, sign, cones, children, bounds, values):  # type: ignore[no-untyped-def]
    k, C = X.shape[1], a.shape[1]
    z, p, L, B, room = np.empty(k), np.empty(k), np.empty(k), np.empty((k, C)), np.empty((k, k + 1))
    point, pulled = np.empty(k), np.empty(C)
    for s in range(cones.shape[0]):
        ends = split_point(X, cones[s], M, point)
        for side in range(2):
            child = children[2 * s + side]
            child[:] = cones[s]
            child[ends[side]] = point
            vertex_bounds(X, a, sign, child, z, B, L)
            bounds[2 * s + side] = _cone_bound(child, L, room, p)
        pulled[:] = 0
        for i in range(X.shape[0]):
            h = _dot(X[i], point)
            if h > 0:
                for c in range(C):
                    pulled[c] += h * a[i, c]
        values[s] = sign * pulled[0] if sign != 0 else np.sqrt(_dot(pulled, pulled))


def _as_seen(X: np.ndarray, a: np.ndarray) -> np.ndarray:
    """The metric M (k, k) of how the examples tell directions apart, vᵀM v = Σ ‖a_i‖ (x_i·v)² but for a factor."""
    weight = np.linalg.norm(a, axis=1)
    M = (X.T * (weight / weight.max())) @ X
    return M / np.trace(M) + _FLAT * np.eye(X.shape[1])


class _Cover:
    """The open cones of one sign of G, or of its norm."""

    def __init__(self, X: np.ndarray, a: np.ndarray, sign: float, pool: ThreadPoolExecutor) -> None:
        k = X.shape[1]
        signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * k)).reshape(k, -1).T
        self.X, self.a, self.M, self.sign, self.pool = X, a, _as_seen(X, a), sign, pool
        self.cones, self.bounds, self.depth = signs[:, :, None] * np.eye(k), np.full(len(signs), np.inf), 0

    def deepen(self, limit: int) -> tuple[float, np.ndarray]:
        """Split the `limit` cones of highest bound; the best value seen on the way and where."""
        order = np.argsort(-self.bounds, kind="stable")
        chosen, rest = order[:limit], order[limit:]
        parents, k = np.ascontiguousarray(self.cones[chosen]), self.X.shape[1]
        children, values = np.empty((2 * len(parents), k, k)), np.empty(len(parents))
        bounds = np.empty(len(children))

        def part(first: int) -> None:
            whole, halves = slice(first, first + _CHUNK), slice(2 * first, 2 * (first + _CHUNK))
            _branch(self.X, self.a, self.M, self.sign, parents[whole], children[halves], bounds[halves], values[whole])

        list(self.pool.map(part, range(0, len(parents), _CHUNK)))
        bounds = np.fmin(bounds, np.repeat(self.bounds[chosen], 2))  # the parent's where a child's is no number
        self.cones = np.concatenate([children, self.cones[rest]])
        self.bounds = np.concatenate([bounds, self.bounds[rest]])
        self.depth += 1
        best = int(np.argmax(values))
        fresh = np.any(children[2 * best] != parents[best], axis=1)
        at = children[2 * best][np.argmax(fresh)]
        return float(values[best]), at

    def drop(self, level: float) -> None:
        """Close the cones whose bound does not exceed the level."""
        keep = self.bounds > level
        self.cones, self.bounds = self.cones[keep], self.bounds[keep]


def bound_on_sphere(
    X: np.ndarray,
    a: np.ndarray,
    *,
    start: np.ndarray | None = None,
    tolerance: float = 1e-7,
    seconds: float | None = None,
    budget: Budget | None = None,
    threads: int = 1,
    max_cones: int = 200_000,
) -> SphereBound | None:
    """Bounds on max ‖G_a(u)‖ over unit u for X (n, d), a (n, C); None where the effective dimension is above 8.

    `start` (d,) is a direction to begin from, best a known maximizer: what lies below its value is never looked at.
    Ends once the budget is over (about five seconds of one core; a limit in `seconds` cuts that short) or so many cones
    are open.
    """
    rows = effective_rows(X, a)
    k, basis = rows.X.shape[1], rows.basis
    if not len(rows.X):
        return nothing_left(rows, np.shape(X)[1])
    if k > MAX_DIMENSION:
        return None
    Z, a = rows.one_sided()
    lipschitz = rows.size
    if k == 1:
        return _two_directions(Z, a, basis, rows.error + 4 * _EPS * (len(Z) + 10) * lipschitz)
    best = rows.within(start)
    with ThreadPoolExecutor(threads) as pool:
        search = _Branching(Z, a, best, tolerance, pool)
        search.run(budget or Budget(_WORK, seconds), max_cones)
    # dot products and sums over n examples; v·p cancelling; 4 roundings a level by which a new ray leaves its edge
    terms = len(Z) + k * k + 10 + max(cover.depth for cover in search.covers)
    allowance = rows.error + 4 * _EPS * terms * max(lipschitz, search.upper)
    upper = search.upper + allowance
    return SphereBound(
        upper=upper,
        lower=search.lower,
        u=basis.T @ search.best,
        allowance=allowance,
        closed=not search.open,
        cells=search.cones,
        dimension=k,
    )


def _two_directions(Z: np.ndarray, a: np.ndarray, basis: np.ndarray, allowance: float) -> SphereBound:
    """The bound in effective dimension 1, Z (n, 1), where there are only ±1 to look at."""
    ends = [float(np.linalg.norm(np.maximum(s * Z, 0.0).T @ a)) for s in (1.0, -1.0)]
    side = 1.0 if ends[0] >= ends[1] else -1.0
    return SphereBound(
        upper=max(ends) + allowance,
        lower=max(ends),
        u=side * basis[0],
        allowance=allowance,
        closed=True,
        cells=2,
        dimension=1,
    )


class _Branching:
    """Covers of the sphere by cones that may hold more than the best value known, `lower`, which `best` attains."""

    def __init__(
        self, Z: np.ndarray, a: np.ndarray, best: np.ndarray, tolerance: float, pool: ThreadPoolExecutor
    ) -> None:
        self.n, self.k = Z.shape
        self.best, self.tolerance, self.cones = best, tolerance, 0
        self.lower = float(np.linalg.norm(np.maximum(Z @ best, 0.0) @ a))
        self.covers = [_Cover(Z, a, sign, pool) for sign in ((1.0, -1.0) if a.shape[1] == 1 else (0.0,))]

    @property
    def open(self) -> list[_Cover]:
        """The covers that have cones left."""
        return [cover for cover in self.covers if len(cover.bounds)]

    @property
    def upper(self) -> float:
        """The highest bound of an open cone, or what was asked of the closed ones."""
        return max([self.lower * (1 + self.tolerance), *(float(cover.bounds.max()) for cover in self.open)])

    def run(self, budget: Budget, max_cones: int) -> None:
        """Split cones, those of highest bound first, until none is open, too many are, or the budget is over."""
        each = 10.0 * (self.n * (6 + self.k) + self.k**3)  # work of a split
        limit = max(_CHUNK, min(_LIMIT, int(2e8 / each)))
        while True:
            for cover in self.covers:
                cover.drop(self.lower * (1 + self.tolerance))
            if not self.open or sum(len(cover.bounds) for cover in self.covers) > max_cones or budget.over():
                return
            for cover in self.open:
                split = min(limit, len(cover.bounds))
                self.cones += 2 * split
                budget.spend(each * split)
                value, at = cover.deepen(limit)
                if value > self.lower:
                    self.lower, self.best = value, at
