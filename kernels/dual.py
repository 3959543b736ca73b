"""Dual activations in closed form: E φ(u) φ(v) and E φ'(u) φ'(v) of two jointly normal numbers.

(u, v) has mean 0, variances A = a², B = b² and covariance C = abc. As in `relu.py` an angle is (c, z), where
z = (1 − |c|)/2, so that 1 − c² = 4z(1 − z) and a − b|c| = (a − b) + 2bz keep their digits where vectors are nearly
parallel. The sources are

    φ(cz) = cφ(z), c > 0    Cho & Saul 2009: of R = ab κ₁(c)/2 = E relu(u) relu(v) and R' = κ₀(c)/2, with p = φ(1) and
                            q = φ(−1):  (p² + q²) R(c) + 2pq R(−c),  (p² + q²) R'(c) − 2pq R'(−c)
    relu²                   Cho & Saul 2009: A B J₂/(2π), J₂ = 3 sin θ cos θ + (π − θ)(1 + 2 cos² θ);  2ab κ₁(c)
    erf                     Williams 1997: (2/π) arcsin(2C/√((1 + 2A)(1 + 2B)));  (4/π)/√((1 + 2A)(1 + 2B) − 4C²)
    gelu                    Tsuchida, Pearce, van der Heide, Roosta & Gallagher 2021; by Stein's identity, as in `_gelu`
    sine                    Rahimi & Recht 2007, the characteristic function of u ± v:  e^{−(A + B)/2} sinh C;  … cosh C
    quadratic               the fourth moments: A B + 2C²;  4C
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .relu import kappas

_TERMS = range(16, 1, -1)  # of the series of J₂, which needs no more up to 2(π − θ) = 2


class Pairs(NamedTuple):
    """Standard deviations a and b, cosines c and z = (1 − |c|)/2 of many pairs; arrays that broadcast."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    z: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        return self.a * self.b * self.c

    @property
    def determinant(self) -> np.ndarray:
        """A B − C²."""
        return (self.a * self.b) ** 2 * (4 * self.z * (1 - self.z))


Dual = Callable[[Pairs], tuple[np.ndarray, np.ndarray]]


def homogeneous(right: float, left: float) -> Dual:
    """Of φ(z) = right · relu(z) + left · relu(−z)."""

    def dual(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
        (same0, same1), (other0, other1) = kappas(pairs.c, pairs.z), kappas(-pairs.c, pairs.z)
        squares, product = 0.5 * (right**2 + left**2), right * left
        value = pairs.a * pairs.b * (squares * same1 + product * other1)
        return value, squares * same0 - product * other0

    return dual


def _relu2(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    half = np.arcsin(np.sqrt(pairs.z))  # half the angle to the nearer of x and −x
    t = 4 * half  # twice that angle; J₂ at the angle π − t/2 is t + (t/2) cos t − (3/2) sin t
    series = np.zeros_like(t)
    for k in _TERMS:
        series = series * -(t**2) + (k - 1) / math.factorial(2 * k + 1)
    far = np.where(t < 2, series * t**5, t + 0.5 * t * np.cos(t) - 1.5 * np.sin(t))
    bend = np.where(pairs.c < 0, far, math.pi * (1 + 2 * pairs.c**2) - far)
    scale = pairs.a * pairs.b
    return scale**2 * bend / (2 * math.pi), 2 * scale * kappas(pairs.c, pairs.z)[1]


def _erf(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    root = np.sqrt(1 + 2 * (pairs.a**2 + pairs.b**2) + 4 * pairs.determinant)
    return 2 / math.pi * np.arctan2(2 * pairs.covariance, root), 4 / math.pi / root


def _gelu(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """With D = (1 + A)(1 + B) − C², P = E Φ(u) Φ(v) = ¼ + arcsin(C/√((1 + A)(1 + B)))/2π, h = 1/(1 + A) + 1/(1 + B).

    E φφ = C P + (A B − C² + C² h)/(2π √D),   E φ'φ' = P + C (h + 1/D)/(2π √D).
    """
    A, B, C = pairs.a**2, pairs.b**2, pairs.covariance
    D = 1 + A + B + pairs.determinant
    root = np.sqrt(D)
    share = np.arctan2(root, -C) / (2 * math.pi)
    h = 1 / (1 + A) + 1 / (1 + B)
    value = C * share + (pairs.determinant + C**2 * h) / (2 * math.pi * root)
    return value, share + C * (h + 1 / D) / (2 * math.pi * root)


def _sine(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    height = 0.5 * np.exp(-0.5 * (pairs.a - pairs.b) ** 2 - 2 * pairs.a * pairs.b * pairs.z)
    double = -2 * np.abs(pairs.covariance)
    return np.sign(pairs.c) * height * -np.expm1(double), height * (1 + np.exp(double))


def _quadratic(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    return (pairs.a * pairs.b) ** 2 + 2 * pairs.covariance**2, 4 * pairs.covariance


CLOSED: dict[str, Dual] = {
    "relu": homogeneous(1.0, 0.0),
    "leaky_relu": homogeneous(1.0, -0.01),
    "relu2": _relu2,
    "erf": _erf,
    "gelu": _gelu,
    "sine": _sine,
    "quadratic": _quadratic,
}
