"""Products, factorizations and the largest singular value with the same bits on every machine.

The arithmetic of exact_math, for matrices: each number is one chain of fma in an order that is written down here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.extending import register_jitable

from ..runtime.arithmetic import fma
from ..runtime.compiling import compiled
from ..runtime.threads import Workers
from .exact_math import norm, plain
from .microkernels import ROWS, VECTORS, dots, lanes, more_dots, place, take_ticket

_GROUP = VECTORS * lanes(np.dtype(np.float64))
_LINES = 32  # of a matrix that are made float64 at a time
_BLOCK = 512  # lines of a Gram matrix that are packed at a time: what they fill stays in the caches


@compiled
def _tiles_product(A, B, out):  # type: ignore[no-untyped-def]
    """out (groups, tiles·ROWS, GROUP) of A (tiles, k, ROWS) and B (groups, k, GROUP)."""
    tiles, k, rows = A.shape
    groups, group = B.shape[0], B.shape[2]
    for g in range(groups):
        for t in range(tiles):
            a, b = place(A, t * k * rows), place(B, g * k * group)
            dots(a, b, k, place(out, (g * tiles + t) * rows * group))


def _tiled(A: np.ndarray, width: int) -> np.ndarray:
    """The rows of A (n, k) as (tiles, k, width), padded with zeros."""
    n, k = A.shape
    tiles = np.zeros((-(-n // width), k, width))
    whole = n // width
    tiles[:whole] = A[: whole * width].reshape(whole, width, k).swapaxes(1, 2)
    if n % width:
        tiles[whole, :, : n % width] = A[whole * width :].T
    return tiles


def product(A: Any, B: Any) -> np.ndarray:
    """A B (n, p) float64 of A (n, k) and B (k, p): each element one chain of fma over k, from zero."""
    A, B = np.asarray(A, np.float64), np.asarray(B, np.float64)
    if A.shape[0] > B.shape[1]:  # the same chains; the longer side lies along the vectors
        return product(B.T, A.T).T
    if A.size == 0:
        return np.zeros((A.shape[0], B.shape[1]))
    left, right = _tiled(A, ROWS), _tiled(B.T, _GROUP)
    out = np.empty((len(right), len(left) * ROWS, _GROUP))
    _tiles_product(left, right, out)
    return np.ascontiguousarray(out.swapaxes(0, 1).reshape(len(left) * ROWS, -1)[: A.shape[0], : B.shape[1]])


@compiled
def _gram(rows, columns, length, begins, out, ticket, limbs):  # type: ignore[no-untyped-def]
    """Lines of out (n, n), the lower half of GROUPs by ROWS at a time, and their mirror: `length` packed lines more.

    What `out` holds before counts unless this `begins` it.
    """
    n, block = out.shape[0], rows.shape[1]
    strip, wide = rows.shape[2], columns.shape[2]
    tile = np.empty((strip, wide))
    taken = take_ticket(ticket)
    while taken < columns.shape[0]:
        g = taken
        for t in range(g * wide // strip, rows.shape[0]):
            tile[:] = 0.0
            if not begins:
                for a in range(min(strip, n - t * strip)):
                    for b in range(min(wide, n - g * wide)):
                        tile[a, b] = out[t * strip + a, g * wide + b]
            more_dots(place(rows, t * block * strip), place(columns, g * block * wide), length, place(tile, 0))
            for a in range(min(strip, n - t * strip)):
                i = t * strip + a
                for b in range(min(wide, i + 1 - g * wide)):
                    out[i, g * wide + b] = tile[a, b]
                    out[g * wide + b, i] = tile[a, b]
        taken = take_ticket(ticket)


@compiled
def _pack(A, weight, first, length, packed):  # type: ignore[no-untyped-def]
    """packed (tiles, ·, width) ← the columns of diag(weight) A (J, n), lines from `first`, side by side, then zeros."""
    n, width = A.shape[1], packed.shape[2]
    for t in range(packed.shape[0]):
        last = min(width, n - t * width)
        for j in range(length):
            for b in range(last):
                packed[t, j, b] = weight[first + j] * A[first + j, t * width + b]
            for b in range(last, width):
                packed[t, j, b] = 0.0


def gram(A: np.ndarray, weight: np.ndarray, workers: Workers | None = None) -> np.ndarray:
    """Aᵀ diag(weight) A (n, n) of A (J, n) and weight (J,), float64: each element one chain of fma over J.

    Symmetric to the last bit; the bits do not depend on how many threads there are. A is not copied, nor a transpose.
    """
    A, (J, n) = A if A.flags.forc and A.dtype == np.float64 else plain(A), A.shape
    rows, columns = (np.empty((-(-n // width), min(J, _BLOCK), width)) for width in (ROWS, _GROUP))
    out, ones, workers = np.zeros((n, n)), np.ones(J), workers or Workers(1)
    for first in range(0, J, _BLOCK):
        length = min(_BLOCK, J - first)
        _pack(A, weight, first, length, rows)
        _pack(A, ones, first, length, columns)
        workers.run(_gram, len(columns), (rows, columns, length, first == 0, out), 0)
    return out


@register_jitable
def _combined(rows: Any, weights: Any, out: Any) -> None:
    """out[j] += Σ_i weights[i] rows[i, j], over i in turn."""
    for i in range(len(weights)):
        for j in range(len(out)):
            out[j] = fma(weights[i], rows[i, j], out[j])


@compiled
def _combine(rows, weights, out):  # type: ignore[no-untyped-def]
    _combined(rows, weights, out)


def combined(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Σ_i weights_i rows_i (p,) of rows (n, p): each element one chain of fma over i; nothing is copied."""
    out = np.zeros(rows.shape[1])
    _combine(rows, weights, out)
    return out


@register_jitable
def _subtract_earlier(T: Any, first: Any, last: Any) -> None:
    """A −= Σ_k L_·k L_ck for the columns c from `first` on, over all k before `first`, on every row from there on."""
    groups, n, group = T.shape
    tiles = -(-(last - first) // ROWS)
    rows, sums = np.zeros((tiles, first, ROWS)), np.empty((ROWS, group))
    for c in range(first, last):
        t, a = (c - first) // ROWS, (c - first) % ROWS
        for k in range(first):
            rows[t, k, a] = T[c // group, k, c % group]
    for g in range(first // group, groups):
        for t in range(tiles):
            dots(place(rows, t * first * ROWS), place(T, g * n * group), first, place(sums, 0))
            for c in range(first + t * ROWS, min(first + (t + 1) * ROWS, last)):
                for lane in range(group):
                    T[g, c, lane] -= sums[(c - first) % ROWS, lane]


@compiled
def _factor(T, panel):  # type: ignore[no-untyped-def]
    """Cholesky by panels of columns, of A as T[g, k, lane] = A[g·GROUP + lane, k] (lower half): L in its place."""
    groups, n, group = T.shape
    roots = np.empty(n)
    for first in range(0, n, panel):
        last = min(first + panel, n)
        if first > 0:
            _subtract_earlier(T, first, last)
        for g in range(first // group, groups):
            for c in range(first, min(last, (g + 1) * group)):
                own, at = c // group, c % group
                for j in range(first, c):
                    minus = -T[own, j, at]
                    for lane in range(group):
                        T[g, c, lane] = fma(minus, T[g, j, lane], T[g, c, lane])
                if g == own:
                    if not T[g, c, at] > 0.0:
                        return False
                    roots[c] = np.sqrt(T[g, c, at])
                for lane in range(group):
                    T[g, c, lane] /= roots[c]
    return True


@compiled
def _lay_out(A, T):  # type: ignore[no-untyped-def]
    """T[g, k, lane] ← A[g·GROUP + lane, k] where that is in the lower half, else 0."""
    groups, n, group = T.shape
    for g in range(groups):
        T[g] = 0.0
        for lane in range(min(group, n - g * group)):
            for k in range(g * group + lane + 1):
                T[g, k, lane] = A[g * group + lane, k]


@compiled
def _lay_back(T, L):  # type: ignore[no-untyped-def]
    """The reverse of `_lay_out`."""
    n, group = len(L), T.shape[2]
    for i in range(n):
        for k in range(i + 1):
            L[i, k] = T[i // group, k, i % group]
        L[i, i + 1 :] = 0.0


@compiled
def _substitute(L, x):  # type: ignore[no-untyped-def]
    """x ← (L Lᵀ)⁻¹ x."""
    n = len(x)
    for i in range(n):
        s = x[i]
        for j in range(i):
            s = fma(-L[i, j], x[j], s)
        x[i] = s / L[i, i]
    for i in range(n - 1, -1, -1):
        x[i] /= L[i, i]
        for j in range(i):
            x[j] = fma(-L[i, j], x[i], x[j])


def cholesky(A: Any, *, panel: int = 64) -> np.ndarray | None:
    """L (n, n), lower triangular with L Lᵀ = A, of a symmetric A (n, n); None where a pivot is not positive.

    Within a panel of columns each element is one chain of fma; what earlier panels take from it is another.
    """
    A = plain(A)
    T = np.empty((-(-len(A) // _GROUP), len(A), _GROUP))
    _lay_out(A, T)
    if not _factor(T, panel):
        return None
    L = np.empty_like(A)
    _lay_back(T, L)
    return L


def cholesky_solve(L: np.ndarray, b: Any) -> np.ndarray:
    """(L Lᵀ)⁻¹ b (n,), of what `cholesky` returned."""
    x = np.array(b, np.float64)
    _substitute(L, x)
    return x


@register_jitable
def _dot(a: Any, b: Any) -> Any:
    value = 0.0
    for i in range(len(a)):
        value = fma(a[i], b[i], value)
    return value


@register_jitable
def _largest_of_tridiagonal(diagonal: Any, beside: Any, k: Any) -> Any:
    """The largest eigenvalue of a symmetric tridiagonal matrix (k, k), bisected: are pivots of s − T positive?"""
    low, high = diagonal[0], diagonal[0]
    for i in range(k):
        reach = (abs(beside[i - 1]) if i > 0 else 0.0) + (abs(beside[i]) if i < k - 1 else 0.0)
        low, high = max(low, diagonal[i]), max(high, diagonal[i] + reach)
    while True:
        middle = 0.5 * (low + high)
        if not low < middle < high:
            return high
        pivot = middle - diagonal[0]
        for i in range(1, k):
            if pivot > 0.0:
                pivot = middle - diagonal[i] - beside[i - 1] * beside[i - 1] / pivot
        if pivot > 0.0:
            high = middle
        else:
            low = middle


@register_jitable
def _apply_gram(X: Any, scale: Any, v: Any, tile: Any, turned: Any, w: Any) -> None:
    """w ← AᵀA v of A = X/scale, which is made some rows at a time in the tile, and transposed beside it."""
    image = np.empty(len(tile))
    w[:] = 0.0
    for first in range(0, len(X), len(tile)):
        count = min(len(tile), len(X) - first)
        for i in range(count):
            for j in range(len(v)):
                tile[i, j] = X[first + i, j] / scale
        for j in range(len(v)):
            for i in range(count):
                turned[j, i] = tile[i, j]
        image[:count] = 0.0
        _combined(turned, v, image[:count])
        _combined(tile, image[:count], w)


@compiled
def _lanczos(X, scale, v, w, before, diagonal, beside):  # type: ignore[no-untyped-def]
    """The largest eigenvalue of AᵀA, A = X/scale, on the Krylov space of the unit vector v, of len(diagonal) dimensions
    at most."""
    largest, beta = 0.0, 0.0
    tile, turned = np.empty((_LINES, len(v))), np.empty((len(v), _LINES))
    for k in range(len(diagonal)):
        _apply_gram(X, scale, v, tile, turned, w)
        for i in range(len(v)):
            w[i] -= beta * before[i]
        alpha = _dot(w, v)
        diagonal[k], largest = alpha, max(largest, alpha)
        for i in range(len(v)):
            w[i] -= alpha * v[i]
        beta = np.sqrt(_dot(w, w))
        beside[k] = beta
        if not beta > 1e-14 * largest:
            break
        for i in range(len(v)):
            before[i], v[i] = v[i], w[i] / beta
    return _largest_of_tridiagonal(diagonal, beside, k + 1)


def spectral_norm(X: Any, *, steps: int = 40) -> float:
    """The largest singular value of X (n, d), from below: Lanczos on XᵀX from a fixed vector, `steps` long.

    X is uint8, float32 or float64, and stays so: the bits are those of its float64.

    Relative error, measured on random matrices: below 1e-6 up to 2000 × 300, 1e-4 at 5000 × 784.
    """
    X = np.ascontiguousarray(X)
    scale = max(float(X.max(initial=0)), -float(X.min(initial=0)))
    if scale == 0.0:
        return 0.0
    d = X.shape[1]
    start = 1.0 + np.arange(d) % 7 / 8.0
    work = np.zeros(d), np.zeros(d), np.zeros(min(steps, d)), np.zeros(min(steps, d))
    return scale * math.sqrt(max(0.0, _lanczos(X, scale, start / norm(start), *work)))
