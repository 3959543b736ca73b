"""The rows that matter for G_a(u) = Σ_i a_i relu(u·x_i): in their span, of length 1, and each line through 0 once.

Rows that are multiples of one another see the same hyperplane. Apart, weights that cancel in G do not cancel in a
bound; so x_i = c x is merged into x, its weight c a_i on the side where u·x > 0 or, with c < 0, on the other one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .sphere_bound import SphereBound

_EPS = float(np.finfo(float).eps)
_SAME = 1e-12  # distance of unit vectors that are taken for one


class Rows(NamedTuple):
    """G_a(u) = Σ_i up_i relu(v·x_i) + down_i relu(−v·x_i) at v = basis u, but for an error.

    Attributes
    ----------
    X : array (n, k)
        Unit rows, no two on one line.
    up, down : arrays (n, C)
        Their weights on either side.
    basis : array (k, d)
        Orthonormal; k is the rank of the rows.
    error : float
        The most by which ‖G_a(u)‖ of a unit vector u differs, rounding included.
    """

    X: np.ndarray
    up: np.ndarray
    down: np.ndarray
    basis: np.ndarray
    error: float

    @property
    def size(self) -> float:
        """Σ ‖up_i‖ + ‖down_i‖, at least max ‖G_a‖."""
        return float(np.linalg.norm(self.up, axis=1).sum() + np.linalg.norm(self.down, axis=1).sum())

    def within(self, u: np.ndarray | None) -> np.ndarray:
        """A direction u (d,) as a unit vector (k,); any where it has no part in the span, or is None."""
        v = np.zeros(len(self.basis)) if u is None else self.basis @ u
        return v / np.linalg.norm(v) if np.any(v) else np.eye(len(self.basis))[0]

    def pull(self, v: np.ndarray) -> float:
        """‖G_a‖ at a unit vector v (k,)."""
        z = self.X @ v
        return float(np.linalg.norm(np.maximum(z, 0.0) @ self.up + np.maximum(-z, 0.0) @ self.down))

    def one_sided(self) -> tuple[np.ndarray, np.ndarray]:
        """X (n', k) and a (n', C) with the same G_a, a row −x for each weight on the other side."""
        up, down = np.any(self.up, axis=1), np.any(self.down, axis=1)
        return np.concatenate([self.X[up], -self.X[down]]), np.concatenate([self.up[up], self.down[down]])


def effective_rows(X: np.ndarray, a: np.ndarray) -> Rows:
    """The rows of X (n, d) with weights a (n, C) that matter, merged; none (0, 0) where nothing is left."""
    X, a = np.asarray(X, np.float64), np.asarray(a, np.float64)
    length = np.linalg.norm(X, axis=1)
    active = np.linalg.norm(a, axis=1) * length > 0
    X, a, length = X[active], a[active], length[active]
    if not len(X):
        return Rows(
            np.zeros((0, 0)), np.zeros((0, a.shape[1])), np.zeros((0, a.shape[1])), np.zeros((0, X.shape[1])), 0
        )
    weight = np.linalg.norm(a, axis=1) * length
    units, basis, off = _in_span(X / length[:, None])
    first, side, distance = lines(units)
    count = int(first.max()) + 1
    up, down = np.zeros((count, a.shape[1])), np.zeros((count, a.shape[1]))
    np.add.at(up, first[side > 0], (length[:, None] * a)[side > 0])
    np.add.at(down, first[side < 0], (length[:, None] * a)[side < 0])
    lead = np.zeros(count, np.int64)
    lead[first[::-1]] = np.arange(len(first))[::-1]
    error = float(weight @ (off + distance)) + 8 * _EPS * (len(X) + X.shape[1]) * float(weight.sum())
    left = np.any(up, axis=1) | np.any(down, axis=1)
    return Rows((side[:, None] * units)[lead][left], up[left], down[left], basis, error)


def nothing_left(rows: Rows, d: int) -> SphereBound:
    """The bound where no row has a weight: G = 0 up to their error."""
    return SphereBound(
        upper=rows.error, lower=0.0, u=np.eye(d)[0], allowance=rows.error, closed=True, cells=0, dimension=0
    )


def _in_span(E: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit rows (n, k), an orthonormal basis (k, d) of the span of E (n, d), and how far each row is off."""
    n, d = E.shape
    if d == 1:
        return E, np.eye(1), np.zeros(n)
    _, s, rows = np.linalg.svd(E, full_matrices=False)
    k = int(np.sum(s > 1e-12 * s[0]))
    if k == d:
        return np.ascontiguousarray(E), np.eye(d), np.zeros(n)
    Z = E @ rows[:k].T
    Z /= np.linalg.norm(Z, axis=1)[:, None]
    return Z, rows[:k], np.linalg.norm(E - Z @ rows[:k], axis=1) + 8 * d * _EPS


def lines(E: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each unit row: the number of its line, in the order of their first rows, its side ±1 and its distance."""
    key = E @ np.cos(1.0 + np.arange(E.shape[1]))
    side = np.where(key < -1e-9, -1.0, 1.0)
    F, key = side[:, None] * E, side * key
    lead, distance, leads = np.arange(len(E)), np.zeros(len(E)), list[int]()
    for i in np.argsort(key, kind="stable"):
        leads = [j for j in leads if key[i] - key[j] <= _SAME * np.sqrt(E.shape[1])]
        for j in leads:
            apart = float(np.linalg.norm(F[i] - F[j]))
            if apart <= _SAME:
                lead[i], distance[i] = j, apart + 4 * _EPS
                break
        else:
            leads.append(int(i))
    order = {j: k for k, j in enumerate(dict.fromkeys(lead.tolist()))}
    return np.array([order[j] for j in lead.tolist()]), side, distance


__all__ = ["Rows", "effective_rows", "lines", "nothing_left"]
