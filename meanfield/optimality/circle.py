"""All local maxima of ‖G_a(u)‖ on the circle: in two dimensions nothing has to be searched for.

The lines u·x_i = 0 cut the circle into at most 2n arcs. Over one of them G_a(u) = Mᵀu, M (2, C) the sum of x_i a_iᵀ
over u·x_i > 0, so that ‖G_a‖² = uᵀ MMᵀ u is highest at the long axis of that form, if the arc holds it, or at an end.
From an arc to the next M changes by one term: n log n operations for all, each rounded once and in a fixed order, so
that the bits are the same everywhere.
"""

from __future__ import annotations

import numpy as np

from ..engine.exact_math import row_norms, row_sums

_FLAT = 1e-12  # a slope that may be none


def highest_on_circle(X: np.ndarray, a: np.ndarray, limit: int) -> np.ndarray:
    """Unit vectors u (k, 2): the local maxima of ‖G_a‖, X (n, 2), a (n, C), or the `limit` highest, those first."""
    ends, M = _arcs(X, a)
    axes, inside = _long_axes(ends, M)
    rising, falling = _slopes(np.roll(M, 1, axis=0), ends) >= -_FLAT, _slopes(M, ends) <= _FLAT
    u = np.concatenate([ends[rising & falling], axes[inside]])
    values = row_norms(_pulls(np.concatenate([M[rising & falling], M[inside]]), u))
    return u[np.argsort(-values, kind="stable")[:limit]]


def _arcs(X: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each arc begins (k, 2), counterclockwise, and its M (k, 2, C); weights in parts of the largest."""
    length, size = row_norms(X), np.abs(a).max(axis=1, initial=0.0)
    active = length * size > 0
    X, a, length = X[active], a[active] / size.max(initial=0.0), length[active]
    into = np.stack([X[:, 1], -X[:, 0]], axis=1) / length[:, None]  # from here on u·x_i > 0, to the opposite
    ends, terms = np.concatenate([into, -into]), X[:, :, None] * a[:, None, :]
    order = np.argsort(_turn(ends), kind="stable")
    place = np.argsort(order, kind="stable")
    n = len(X)
    before = terms[place[n:] < place[:n]]  # what is on before the first
    changes = np.concatenate([terms, -terms])[order]
    ends, M = ends[order], np.cumsum(np.concatenate([before, changes]), axis=0)[len(before) :]
    new = np.any(ends != np.roll(ends, -1, axis=0), axis=1)
    return ends[new], M[new]


def _turn(u: np.ndarray) -> np.ndarray:
    """A number in [−2, 2) that grows with the angle of the unit vectors u (k, 2), from −π on."""
    share = u[:, 0] / (np.abs(u[:, 0]) + np.abs(u[:, 1]))
    return np.where(u[:, 1] < 0, share - 1, 1 - share)


def _long_axes(ends: np.ndarray, M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The unit vector (k, 2) on each arc's side for which uᵀ MMᵀ u is highest, and whether the arc holds it (k,)."""
    p, q, r = (row_sums(M[:, i] * M[:, j]) for i, j in ((0, 0), (0, 1), (1, 1)))
    half = 0.5 * (p - r)
    root = np.sqrt(half * half + q * q)
    axes = np.where((half >= 0)[:, None], np.stack([half + root, q], axis=1), np.stack([q, root - half], axis=1))
    axes /= np.maximum(row_norms(axes), 1e-300)[:, None]
    last = np.roll(ends, -1, axis=0)
    outwards = _cross(axes, last - ends)
    axes *= np.where(outwards < 0, -1.0, 1.0)[:, None]
    return axes, (outwards != 0) & (_cross(ends, axes) >= 0) & (_cross(axes, last) >= 0)


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]


def _pulls(M: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Mᵀu (k, C) of M (k, 2, C), u (k, 2)."""
    return u[:, :1] * M[:, 0] + u[:, 1:] * M[:, 1]


def _slopes(M: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Of ½ ‖Mᵀu‖² counterclockwise, in parts of ‖M‖² (k,)."""
    across = np.stack([-u[:, 1], u[:, 0]], axis=1)
    squares = row_sums(M[:, 0] * M[:, 0]) + row_sums(M[:, 1] * M[:, 1])
    return row_sums(_pulls(M, u) * _pulls(M, across)) / np.maximum(squares, 1e-300)


__all__ = ["highest_on_circle"]
