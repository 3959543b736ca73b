"""The ReLU kernels as a function of the angle between two inputs, and nothing else; compiled.

Cho & Saul (2009) with κ₀(c) = (π − θ)/π and κ₁(c) = (sin θ + (π − θ) cos θ)/π, c = cos θ. Neither survives rounding as
written: near θ = 0 the cosine forgets the angle, near θ = π both terms of κ₁ cancel. So an angle is carried as (c, z),
where z = (1 − |c|)/2 = sin²(½ angle to the nearer of ±), and with q = √z

    P(z) = arcsin(q)/q,    H(z) = (√(1 − z) − (1 − 2z) P(z))/z,    both smooth on [0, ½],
    c ≥ 0:  κ₀ = 1 − (2/π) q P,   κ₁ = c + (2/π) q z H,   (1 − κ₁)/2 = z (1 − q H/π)
    c < 0:  κ₀ = (2/π) q P,       κ₁ = (2/π) q z H

no two terms cancel, and the next layer's z follows from this one's, however small. P and H are the polynomials below:
interpolants at Chebyshev points, relative error < 6e-17 (`scripts/make_kernel_reference.py --coefficients`).
"""

from __future__ import annotations

import math

import numpy as np

from ..runtime.arithmetic import fma
from ..runtime.compiling import compiled

CHUNK = 256  # columns handled at once: the work rows of a chunk stay in the first-level cache
# Beyond these cosines the rounding of a matrix product shows in K; the angle is then taken from the vectors themselves.
NEAR, FAR = 1 - 1e-3, -1 + 1e-2
TWO_OVER_PI = 2 / math.pi
P = (
    1.0,
    0.16666666666664987,
    0.07500000000401816,
    0.044642856762615,
    0.030381963396751827,
    0.022371584779320355,
    0.017364281439103527,
    0.01380344589589198,
    0.013191002571753903,
    -0.002601537848299688,
    0.07871611357002127,
    -0.2968705430689824,
    1.0082016650534187,
    -2.4908808126226116,
    4.6420689099888435,
    -6.229299875397985,
    5.7579408313146985,
    -3.278933156739812,
    0.8892904367638688,
)
H = (
    1.3333333333333333,
    0.13333333333334071,
    0.04285714285556105,
    0.01984126997538724,
    0.011047973819713819,
    0.006883902841014827,
    0.004624524012430204,
    0.0033215467566209025,
    0.0021131214880823336,
    0.003957653306862928,
    -0.008852367759358297,
    0.03920019737776707,
    -0.10397122300928494,
    0.21454873761093943,
    -0.31229446643630443,
    0.3134989900684328,
    -0.19244609536278637,
    0.05683066296223018,
)


@compiled
def _arcsine(z: float) -> float:
    p = fma(fma(fma(P[18], z, P[17]), z, P[16]), z, P[15])
    p = fma(fma(fma(fma(fma(p, z, P[14]), z, P[13]), z, P[12]), z, P[11]), z, P[10])
    p = fma(fma(fma(fma(fma(p, z, P[9]), z, P[8]), z, P[7]), z, P[6]), z, P[5])
    return fma(fma(fma(fma(fma(p, z, P[4]), z, P[3]), z, P[2]), z, P[1]), z, P[0])


@compiled
def _bend(z: float) -> float:
    h = fma(fma(H[17], z, H[16]), z, H[15])
    h = fma(fma(fma(fma(fma(h, z, H[14]), z, H[13]), z, H[12]), z, H[11]), z, H[10])
    h = fma(fma(fma(fma(fma(h, z, H[9]), z, H[8]), z, H[7]), z, H[6]), z, H[5])
    return fma(fma(fma(fma(fma(h, z, H[4]), z, H[3]), z, H[2]), z, H[1]), z, H[0])


@compiled
def separation(x: np.ndarray, y: np.ndarray) -> float:
    """z of two nonzero float64 vectors, to a few ulp however nearly parallel or antiparallel (components near 1).

    y minus its projection on x, twice: fma rounds each component once, relative to the small rest that it is.
    """
    xx = xy = yy = 0.0
    for k in range(x.size):
        xx += x[k] * x[k]
        xy += x[k] * y[k]
        yy += y[k] * y[k]
    t = -xy / xx
    xr = 0.0
    for k in range(x.size):
        xr += x[k] * fma(t, x[k], y[k])
    t2 = -xr / xx
    rr = 0.0
    for k in range(x.size):
        rest = fma(t2, x[k], fma(t, x[k], y[k]))
        rr += rest * rest
    sine2 = min(rr / yy, 1.0)
    return 0.5 * sine2 / (1 + math.sqrt(1 - sine2))


@compiled
def angles(c: np.ndarray, z: np.ndarray, x: np.ndarray, Z: np.ndarray) -> None:
    """Fill z from the cosines c between x and the rows of Z; near ±1 make both again from the vectors."""
    close = 0
    for j in range(c.size):
        z[j] = 0.5 * (1 - abs(c[j]))
        close += (c[j] > NEAR) | (c[j] < FAR)
    if close:
        for j in range(c.size):
            if c[j] > NEAR or c[j] < FAR:
                z[j] = separation(x, Z[j])
                c[j] = math.copysign(1 - 2 * z[j], c[j])


@compiled
def _kappas(c: float, z: float) -> tuple[float, float, float]:
    """κ₀, κ₁ and (2/π) q H."""
    q = TWO_OVER_PI * math.sqrt(z)
    arc, bend = q * _arcsine(z), q * _bend(z)
    if c < 0:
        return arc, bend * z, bend
    return 1 - arc, fma(bend, z, c), bend


@compiled
def _both_kappas(c: np.ndarray, z: np.ndarray, kappa0: np.ndarray, kappa1: np.ndarray) -> None:
    for j in range(c.size):
        kappa0[j], kappa1[j], _ = _kappas(c[j], z[j])


def kappas(c: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """κ₀ and κ₁ of cosines c and z = (1 − |c|)/2, arrays of one shape."""
    kappa0, kappa1 = np.empty(c.shape), np.empty(c.shape)
    _both_kappas(c.ravel(), z.ravel(), kappa0.reshape(-1), kappa1.reshape(-1))
    return kappa0, kappa1


@compiled
def layers(
    c: np.ndarray,
    z: np.ndarray,
    t: np.ndarray,
    first: float,
    alpha: np.ndarray,
    beta: float,
    x_norm: float,
    norms: np.ndarray,
) -> None:
    """Turn cosines c into kernel values: t = first·c; at each layer t ← alpha[l] κ₁ + beta κ₀ t and c ← κ₁.

    At last c = x_norm norms t. z and t (as long as c) are used up.
    """
    for j in range(c.size):
        t[j] = first * c[j]
    for l in range(alpha.size - 1):
        a = alpha[l]
        for j in range(c.size):
            kappa0, kappa1, bend = _kappas(c[j], z[j])
            t[j] = fma(a, kappa1, beta * kappa0 * t[j])
            z[j] = 0.5 * (1 - kappa1) if c[j] < 0 else z[j] * fma(-0.5, bend, 1.0)
            c[j] = kappa1
    a = alpha[-1]
    for j in range(c.size):
        kappa0, kappa1, bend = _kappas(c[j], z[j])
        c[j] = fma(a, kappa1, beta * kappa0 * t[j]) * x_norm * norms[j]
