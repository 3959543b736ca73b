"""A proven upper bound on E[q(s)^{−d/2}] over the unit sphere, d ≤ 3: an upper sum over cones, refined where it pays.

q(s) = 1 − (‖G_a(s)‖/2λ)², so it is enough to bound ‖G_a‖ above in every cone. At the rays v_k of a simplicial cone
`branch_and_bound` gives L_k with ‖G_a(Σ t_k v_k)‖ ≤ Σ t_k L_k, t ≥ 0; on unit vectors Σ t_k is at most 1 over the
distance of 0 from the plane through the rays. Cones are cut in two where the upper sum exceeds a guess of the integral
by most; an edge that crosses a kink is cut there.
"""

from __future__ import annotations

import numpy as np

from ..runtime.compiling import compiled
from .branch_and_bound import split_point, vertex_bounds

_CELLS = 200_000
_EPS = float(np.finfo(float).eps)
_SLACK = 1e-9  # relative: for the rounding of cones' sizes, of what is cut, and of the sum


@compiled
def _cut(X, cones, children):  # type: ignore[no-untyped-def]
    M, point = np.eye(X.shape[1]), np.empty(X.shape[1])
    for s in range(cones.shape[0]):
        ends = split_point(X, cones[s], M, point)
        for side in range(2):
            children[2 * s + side] = cones[s]
            children[2 * s + side, ends[side]] = point


@compiled
def _highest(X, a, cones, bounds, middles):  # type: ignore[no-untyped-def]
    """The highest L_k of each cone, and ‖G_a‖ in its middle."""
    k, C = X.shape[1], a.shape[1]
    z, B, L, middle, G = np.empty(k), np.empty((k, C)), np.empty(k), np.empty(k), np.empty(C)
    for s in range(cones.shape[0]):
        vertex_bounds(X, a, 0.0, cones[s], z, B, L)
        bounds[s] = np.max(L)
        middle[:] = 0
        for r in range(k):
            middle += cones[s, r]
        middle /= np.sqrt(np.sum(middle * middle))
        G[:] = 0
        for i in range(X.shape[0]):
            h = np.sum(X[i] * middle)
            if h > 0:
                G += h * a[i]
        middles[s] = np.sqrt(np.sum(G * G))


def _size(V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of cones with the unit rays V (N, d, d): the part of the sphere, and the distance of 0 from the rays' plane."""
    if V.shape[1] == 2:
        half = 0.5 * np.linalg.norm(V[:, 0] - V[:, 1], axis=1)
        return 2 * np.arcsin(np.minimum(1.0, half)) / (2 * np.pi), np.sqrt(np.maximum(0.0, 1 - half * half))
    one, other, third = V[:, 0], V[:, 1], V[:, 2]
    normal = np.cross(other - one, third - one)
    volume = np.abs(np.sum(one * normal, axis=1))
    inner = np.sum(one * other, axis=1) + np.sum(other * third, axis=1) + np.sum(third * one, axis=1)
    return 2 * np.arctan2(volume, 1 + inner) / (4 * np.pi), volume / np.linalg.norm(normal, axis=1)


class _Sum:
    """Cones (N, d, d), the part of the sphere of each, and upper bounds and guesses of q^{−d/2} there."""

    def __init__(self, X: np.ndarray, a: np.ndarray, reg: float) -> None:
        d = X.shape[1]
        signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * d)).reshape(d, -1).T
        self.X, self.a, self.reg, self.d = X, a, reg, d
        reach = float(np.linalg.norm(a, axis=1) @ np.linalg.norm(X, axis=1))
        self.rounding = 4 * _EPS * (len(X) + 100) * reach
        self.cones, self.part, self.upper, self.guess = self._measured(signs[:, :, None] * np.eye(d))

    def _measured(self, cones: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        bounds, middles = np.empty(len(cones)), np.empty(len(cones))
        _highest(self.X, self.a, cones, bounds, middles)
        part, distance = _size(cones)
        return cones, part, self._power(bounds / distance * (1 + 1e-12) + self.rounding), self._power(middles)

    def _power(self, norm: np.ndarray) -> np.ndarray:
        q = 1 - (norm / (2 * self.reg)) ** 2
        return np.where(q > 0, np.maximum(q, 1e-100) ** (-0.5 * self.d), np.inf)

    @property
    def value(self) -> float:
        return float(np.sum(self.part * self.upper)) * (1 + _SLACK)

    def refine(self) -> None:
        """Cut the cones that make up nine tenths of the excess, but no more than a third of all."""
        excess = self.part * np.minimum(self.upper - np.minimum(self.guess, 1e300), 1e300)
        order = np.argsort(-excess, kind="stable")
        count = 1 + int(np.searchsorted(np.cumsum(excess[order]), 0.9 * excess.sum()))
        chosen, rest = order[: max(count, len(order) // 8)], order[max(count, len(order) // 8) :]
        parents = np.ascontiguousarray(self.cones[chosen])
        children = np.empty((2 * len(parents), self.d, self.d))
        _cut(self.X, parents, children)
        fresh, old = self._measured(children), (self.cones, self.part, self.upper, self.guess)
        self.cones, self.part, self.upper, self.guess = (
            np.concatenate([new, kept[rest]]) for new, kept in zip(fresh, old, strict=True)
        )


def proven_mean(X: np.ndarray, a: np.ndarray, reg: float, *, cells: int = _CELLS) -> float:
    """At least E[q(s)^{−d/2}] over s uniform on the unit sphere, X (n, d) with d ≤ 3, a (n, C); rounding included.

    inf where so many cells do not show that q stays positive.
    """
    X, a = np.ascontiguousarray(X, np.float64), np.ascontiguousarray(a, np.float64)
    if X.shape[1] == 1:
        ends = np.array([np.linalg.norm(np.maximum(s * X, 0.0).T @ a) for s in (1.0, -1.0)])
        q = 1 - (ends * (1 + 1e-12) / (2 * reg)) ** 2
        return float(np.mean(q**-0.5)) * (1 + _SLACK) if np.all(q > 0) else np.inf
    total = _Sum(X, a, reg)
    while len(total.cones) < cells:
        total.refine()
    return total.value


__all__ = ["proven_mean"]
