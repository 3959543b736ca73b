"""An activation and its derivative as polynomials on pieces, cut where they bend: to be integrated without a formula.

On each piece both are interpolated at 16 Chebyshev points. A piece whose last coefficients have not fallen to rounding
is cut in half; where that goes on down to the precision of numbers there is a kink, and all begins again with cuts
around it. Cuts at powers of two give numbers near 0 their own pieces, so that small vectors have small errors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..runtime.compiling import compiled

ORDER = 16
_RESOLVED = 1e-14  # of the largest |φ| nearer to 0: what the last three coefficients may be
_NARROW = 2.0**-46  # of the distance from 0: a piece as narrow as that holds a kink
_BENT = 1e-9  # of the largest coefficient: where polynomials of neighbours that agree up to a kink go apart
_MOST = 4000  # pieces


class Pieces(NamedTuple):
    """Cuts edges (k + 1,), ascending; Chebyshev coefficients value and slope (k, ORDER); kinks (q,), of the cuts.

    origin (2,) holds φ(0) and φ'(0) themselves.
    """

    edges: np.ndarray
    value: np.ndarray
    slope: np.ndarray
    kinks: np.ndarray
    origin: np.ndarray


def cut(neuron: Any, least: float, most: float) -> Pieces:
    """φ and φ' of a neuron on [−most, most], in pieces that resolve numbers from the size `least` on.

    Parameters
    ----------
    neuron : object
        With a `name`, and `evaluate(z)` that gives φ(z) and φ'(z).
    least, most : float
        0 < least ≤ most.

    Returns
    -------
    Pieces

    Raises
    ------
    ValueError
        In one line, a neuron that is not finite there or has more than thousands of pieces.

    Examples
    --------
    >>> from meanfield.kernels.neurons import NEURONS
    >>> from meanfield.kernels.pieces import cut
    >>> cut(NEURONS["relu2"], 1.0, 4.0).edges
    array([-4., -2., -1.,  0.,  1.,  2.,  4.])
    """
    powers = 2.0 ** np.arange(np.floor(np.log2(least)), np.ceil(np.log2(most)) + 1)
    level = _Level(neuron, powers)
    cuts = np.concatenate([-powers[::-1], [0.0], powers])
    while True:
        edges, value, slope, narrow = _halved(neuron, cuts, level)
        around = np.union1d(edges[:-1][narrow], edges[1:][narrow])
        if np.isin(around, cuts).all():
            origin = np.concatenate(neuron.evaluate(np.zeros(1)))
            return Pieces(edges, value, slope, _kinks(edges, value, slope), origin)
        cuts = np.union1d(cuts, around)


def _kinks(edges: np.ndarray, value: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Those of the cuts beyond which a polynomial goes on otherwise than its neighbour; one of two close together."""
    width = np.diff(edges)
    beyond = edges[1:-1] + 0.1 * np.minimum(width[:-1], width[1:])
    bent = np.zeros(beyond.size, dtype=bool)
    for one in (value, slope):
        left, right = _at(edges, one, beyond, 0), _at(edges, one, beyond, 1)
        bent |= np.abs(left - right) > _BENT * np.abs(one).max(axis=1)[1:]
    kinks = edges[1:-1][bent]
    return kinks[np.append(True, np.diff(kinks) > 4 * _NARROW * np.abs(kinks[1:]))] if kinks.size else kinks


def _at(edges: np.ndarray, coefficients: np.ndarray, z: np.ndarray, shift: int) -> np.ndarray:
    """The polynomial left (0) or right (1) of each inner cut, at the z that belongs to it."""
    i = np.arange(z.size) + shift
    x = (2 * z - edges[i] - edges[i + 1]) / (edges[i + 1] - edges[i])
    return np.sum(coefficients[i] * np.cosh(np.arccosh(x + 0j)[:, None] * np.arange(ORDER)).real, axis=1)


class _Level:
    """The largest |φ| and |φ'| met so far on the way from 0 outwards: an error is measured by it."""

    def __init__(self, neuron: Any, powers: np.ndarray) -> None:
        right = np.concatenate([-powers, powers])
        left = np.concatenate([[0.0], powers[:-1]])
        sizes = [np.abs(one).max(axis=1) for one in _interpolated(neuron, np.concatenate([-left, left]), right)]
        self.powers = powers
        self.largest = [np.maximum.accumulate(one.reshape(2, -1).max(axis=0)) for one in sizes]

    def resolved(self, left: np.ndarray, right: np.ndarray, *both: np.ndarray) -> np.ndarray:
        """Whether the last coefficients of φ and of φ' have fallen to rounding."""
        ring = np.searchsorted(self.powers, 0.5 * np.abs(left + right))
        good = np.ones(left.size, dtype=bool)
        for coefficients, largest in zip(both, self.largest, strict=True):
            good &= np.abs(coefficients[:, -3:]).max(axis=1) <= _RESOLVED * largest[ring]
        return good


def _halved(neuron: Any, cuts: np.ndarray, level: _Level) -> tuple[np.ndarray, ...]:
    """(edges, value, slope, narrow): pieces between the cuts, halved until they are resolved, or narrow and a kink."""
    left, right, done = cuts[:-1], cuts[1:], []
    while left.size:
        value, slope = _interpolated(neuron, left, right)
        good = level.resolved(left, right, value, slope)
        narrow = ~good & (right - left <= _NARROW * np.maximum(np.abs(left), np.abs(right)))
        ended = good | narrow
        done.append((left[ended], right[ended], value[ended], slope[ended], narrow[ended]))
        left, right = left[~ended], right[~ended]
        if sum(len(one[0]) for one in done) + 2 * left.size > _MOST:
            raise ValueError(f"neuron {neuron.name!r}: bends too often to be integrated over |z| < {cuts[-1]:.4g}")
        middle = 0.5 * (left + right)
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
    start, end, value, slope, narrow = (np.concatenate(parts) for parts in zip(*done, strict=True))
    order = np.argsort(start)
    return np.append(start[order], end[order][-1]), value[order], slope[order], narrow[order]


def _interpolated(neuron: Any, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chebyshev coefficients (k, ORDER) of φ and φ' on each piece."""
    angle = np.pi * (np.arange(ORDER) + 0.5) / ORDER
    z = 0.5 * (left + right)[:, None] + 0.5 * (right - left)[:, None] * np.cos(angle)
    values = neuron.evaluate(z)
    if not all(np.isfinite(one).all() for one in values):
        raise ValueError(f"neuron {neuron.name!r}: is not finite between −{right.max():.4g} and {right.max():.4g}")
    weights = 2 / ORDER * np.cos(np.outer(angle, np.arange(ORDER)))
    weights[:, 0] *= 0.5
    return values[0] @ weights, values[1] @ weights


@compiled
def both_at(pieces: Pieces, i: int, z: np.ndarray, value: np.ndarray, slope: np.ndarray) -> None:
    """Fill value and slope, as long as z, with φ(z) and φ'(z) on piece i, by Clenshaw's recurrence."""
    left, right = pieces.edges[i], pieces.edges[i + 1]
    for j in range(z.size):
        x = (2 * z[j] - left - right) / (right - left)
        f = g = f1 = g1 = 0.0
        for k in range(ORDER - 1, 0, -1):
            f2, g2 = f1, g1
            f1, g1 = f, g
            f = pieces.value[i, k] + 2 * x * f1 - f2
            g = pieces.slope[i, k] + 2 * x * g1 - g2
        value[j] = pieces.value[i, 0] + x * f - f1
        slope[j] = pieces.slope[i, 0] + x * g - g1
