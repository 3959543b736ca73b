"""Dual activations of any φ: E φ(u) φ(v) and E φ'(u) φ'(v) as series in the cosine, with what the rest may be.

With a = √E u², b = √E v², c the correlation and He_k the Hermite polynomials (Mehler's formula; Daniely, Frostig &
Singer 2016 call the left side the dual activation),

    E φ(u) φ(v) = Σ_k h_k(a) h_k(b) cᵏ,    h_k(a) = E[φ(ap) He_k(p)]/√k!,  p ~ N(0, 1)
    |Σ_{k>K}| ≤ |c|^{K+1} √(T(a) T(b)),    T(a) = E φ(ap)² − Σ_{k≤K} h_k(a)²     (Parseval, Cauchy and Schwarz)

and likewise for φ'. A sum ends when that bound is below 1e-13 of √(E φ(u)² E φ(v)²). Where TERMS do not suffice, which
takes a φ that is steep or has kinks and vectors that are nearly parallel, the double integral is taken instead
(`nearly_parallel.py`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..runtime.compiling import compiled
from ..runtime.threads import on_threads
from .nearly_parallel import COARSE, FINE, integrate_pair
from .pieces import ORDER, Pieces, both_at

TERMS = (64, 256, 1024)  # the longest series that is tried, whichever suffices for c = 1
BLOCK = 32  # terms between two looks at the bound
TOLERANCE = 1e-13
_ROUNDING = 1e-14  # of E φ², in the sum of 1024 squares
_NOTHING = 1e-30  # of E φ²: what a BLOCK has when all after it are rounding
REACH = 13.0  # He_k(p)/√k! < 1.1 exp(p²/4), and exp(−p²/4) is then 5e-19
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(ORDER)
_ROOTS = np.sqrt(np.arange(TERMS[-1] + 1.0))


class Series(NamedTuple):
    """Of n standard deviations: coefficients (n, 1024) of φ and φ', and T (n, 33) after every BLOCK of them.

    tails[:, 0] are the mean squares E φ(u)², E φ'(u)² themselves.
    """

    value: np.ndarray
    slope: np.ndarray
    value_tails: np.ndarray
    slope_tails: np.ndarray


def series(pieces: Pieces, sizes: np.ndarray, threads: int | None = None) -> Series:
    """The coefficients of φ(ap) and φ'(ap) for each of the sizes a, as far as they are needed.

    Parameters
    ----------
    pieces : Pieces
        φ, on (−13 a, 13 a) for the largest a.
    sizes : ndarray (n,)
        Standard deviations a ≥ 0.
    threads : int, optional
        By default the cores that this process may use.

    Returns
    -------
    Series

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels.hermite import series
    >>> from meanfield.kernels.neurons import NEURONS
    >>> from meanfield.kernels.pieces import cut
    >>> found = series(cut(NEURONS["quadratic"], 1.0, 13.0), np.ones(1))
    >>> found.value[0, :4].round(12) + 0.0
    array([1.        , 0.        , 1.41421356, 0.        ])
    """
    count = len(sizes)
    coefficients = [np.zeros((count, TERMS[-1])) for _ in range(2)]
    tails = [np.zeros((count, TERMS[-1] // BLOCK + 1)) for _ in range(2)]

    def expand(i: int) -> None:
        both, squares = _expanded(sizes[i], pieces) if sizes[i] > 0 else (pieces.origin[:, None], pieces.origin**2)
        for k in range(2):
            coefficients[k][i, : both.shape[1]] = both[k]
            tails[k][i] = _tails(coefficients[k][i], squares[k])

    on_threads(expand, range(count), threads)
    return Series(*coefficients, *tails)


def _expanded(a: float, pieces: Pieces) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (2, K) of φ(ap) and φ'(ap), K as few of TERMS as will do, and the means (2,) of their squares."""
    for terms in TERMS:
        lanes, squares = np.zeros((terms, 2, ORDER)), np.zeros(2)
        _expand(a, pieces, 12 / math.sqrt(terms), lanes, squares)
        both = lanes.sum(axis=2).T
        ended = np.sum(both[:, -BLOCK:] ** 2, axis=1) <= _NOTHING * squares
        if np.all(ended & (np.sum(both**2, axis=1) >= (1 - _ROUNDING) * squares)):
            break
    return both, squares


def _tails(coefficients: np.ndarray, square: float) -> np.ndarray:
    """T before the first and after every BLOCK of coefficients; below rounding, what the last BLOCK of them has."""
    blocks = np.sum(coefficients.reshape(-1, BLOCK) ** 2, axis=1)
    rest = square - blocks.sum()
    last = rest if rest > _ROUNDING * square else blocks[blocks > 0][-1:].sum()
    return np.append(square, last + np.append(np.cumsum(blocks[:0:-1])[::-1], 0.0))


@compiled
def _expand(a: float, pieces: Pieces, width: float, lanes: np.ndarray, squares: np.ndarray) -> None:
    """Add to lanes (K, 2, ORDER) the coefficients of φ(ap) and φ'(ap), to squares (2,) the means of their squares."""
    at, piece = -REACH, 0
    p, psi, last = np.empty(ORDER), np.empty(ORDER), np.empty(ORDER)
    phi, slope = np.empty(ORDER), np.empty(ORDER)
    while at < REACH:
        while piece + 2 < pieces.edges.size and pieces.edges[piece + 1] <= a * at:
            piece += 1
        end = min(at + width, REACH)
        if a > 0 and pieces.edges[piece + 1] < a * end:
            end = pieces.edges[piece + 1] / a
        if end <= at:  # the rounding of that quotient
            end = np.nextafter(at, np.inf)
        for j in range(ORDER):
            p[j] = 0.5 * (at + end) + 0.5 * (end - at) * _NODES[j]
        both_at(pieces, piece, a * p, phi, slope)
        for j in range(ORDER):
            psi[j], last[j] = math.exp(-0.25 * p[j] * p[j]), 0.0
            weight = 0.5 * (end - at) * _WEIGHTS[j] * psi[j] / math.sqrt(2 * math.pi)
            squares[0] += weight * psi[j] * phi[j] ** 2
            squares[1] += weight * psi[j] * slope[j] ** 2
            phi[j] *= weight
            slope[j] *= weight
        for k in range(lanes.shape[0]):
            back, ahead = _ROOTS[k] / _ROOTS[k + 1], 1 / _ROOTS[k + 1]
            for j in range(ORDER):
                lanes[k, 0, j] += phi[j] * psi[j]
                lanes[k, 1, j] += slope[j] * psi[j]
                following = ahead * p[j] * psi[j] - back * last[j]
                last[j] = psi[j]
                psi[j] = following
        at = end


@compiled
def sum_pair(c: float, i: int, j: int, rows: Series, columns: Series) -> tuple[float, float, bool]:
    """(E φφ, E φ'φ', whether the rest is known to be small) of row i and column j at the cosine c."""
    value = slope = 0.0
    power = 1.0
    allowed0 = TOLERANCE * math.sqrt(rows.value_tails[i, 0] * columns.value_tails[j, 0])
    allowed1 = TOLERANCE * math.sqrt(rows.slope_tails[i, 0] * columns.slope_tails[j, 0])
    for block in range(1, rows.value_tails.shape[1]):
        for k in range((block - 1) * BLOCK, block * BLOCK):
            value += power * (rows.value[i, k] * columns.value[j, k])
            slope += power * (rows.slope[i, k] * columns.slope[j, k])
            power *= c
        rest0 = abs(power) * math.sqrt(rows.value_tails[i, block] * columns.value_tails[j, block])
        rest1 = abs(power) * math.sqrt(rows.slope_tails[i, block] * columns.slope_tails[j, block])
        if rest0 <= allowed0 and rest1 <= allowed1:
            return value, slope, True
    return value, slope, False


@compiled
def fill_pairs(
    cosines: np.ndarray, z: np.ndarray, rows: Series, columns: Series, sizes: tuple, pieces: Pieces
) -> tuple:
    """(E φφ, E φ'φ' (r, k), the largest known error) of rows and columns of the two sizes; z = (1 − |c|)/2.

    An error is relative to √(E φ² E φ²), and known where the double integral was taken.
    """
    value, slope, worst = np.empty(cosines.shape), np.empty(cosines.shape), 0.0
    for i in range(cosines.shape[0]):
        for j in range(cosines.shape[1]):
            value[i, j], slope[i, j], good = sum_pair(cosines[i, j], i, j, rows, columns)
            if not good:
                a, b = max(sizes[0][i], sizes[1][j]), min(sizes[0][i], sizes[1][j])
                value[i, j], slope[i, j] = integrate_pair(a, b, cosines[i, j], z[i, j], pieces, FINE)
                other = integrate_pair(a, b, cosines[i, j], z[i, j], pieces, COARSE)
                scale0 = math.sqrt(rows.value_tails[i, 0] * columns.value_tails[j, 0])
                scale1 = math.sqrt(rows.slope_tails[i, 0] * columns.slope_tails[j, 0])
                worst = max(worst, abs(value[i, j] - other[0]) / scale0, abs(slope[i, j] - other[1]) / scale1)
    return value, slope, worst
