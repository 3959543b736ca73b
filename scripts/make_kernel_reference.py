#!/usr/bin/env python3
"""Make data/kernel_reference.csv and data/dual_reference.csv, in 80-digit arithmetic, from textbook formulas.

The first has the ReLU kernels of hard pairs of points, the second the dual activations of each neuron, E φ(u) φ(v) and
E φ'(u) φ'(v). docs/reference/golden-set.md says what the columns are. With --coefficients, print instead the
polynomials P and H of kernels/relu.py. Needs mpmath; takes a minute, nearly all for tanh and softplus.
"""

import argparse
import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np

mp.mp.dps = 80
DATA = Path(__file__).resolve().parent.parent / "data"
NETWORKS = (  # depth, w_std, u_std
    (2, 1.0, 1.0),
    (2, 0.25, 3.0),
    (3, 1.25, 0.5),
    (5, 1.0, 1.0),
    (10, 2**0.5, 1.0),
    (50, 2**0.5, 1.0),
)
LENGTHS = ((1.0, 1.0), (0.75, 2.0), (2.0**-20, 1.5))
COSINES = (-1.0, -1 + 2.0**-30, -0.75, 0.0, 0.3, 1 - 2.0**-10, 1 - 2.0**-40, 1.0)


def kernels(x: Any, y: Any, depth: int, w_std: float, u_std: float) -> tuple[Any, Any, Any, Any]:
    """(ntk, first layer alone, last layer alone, nngp) by the recursion of kernels/gram.py as it stands there."""
    x, y, w2, u2 = [mp.mpf(float(v)) for v in x], [mp.mpf(float(v)) for v in y], mp.mpf(w_std) ** 2, mp.mpf(u_std) ** 2
    xx, yy, xy = mp.fdot(x, x), mp.fdot(y, y), mp.fdot(x, y)
    first = tangent = xy
    covariance, variances = u2 * xy, (u2 * xx, u2 * yy)
    for _ in range(depth - 1):
        norm = mp.sqrt(variances[0] * variances[1])
        sine = mp.sqrt(max(variances[0] * variances[1] - covariance**2, 0))
        theta = mp.atan2(sine, covariance)
        product = (sine + (mp.pi - theta) * covariance) / (2 * mp.pi)
        slope = (mp.pi - theta) / (2 * mp.pi) if norm else mp.mpf(0)
        tangent, first = product + w2 * slope * tangent, w2 * slope * first
        covariance, variances = w2 * product, (w2 * variances[0] / 2, w2 * variances[1] / 2)
    return tangent, first, product, covariance


def pairs(rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(name, x, y): every way in which an angle can be hard."""
    for d in (1, 2, 3, 10):
        for k in range(3):
            yield f"random {k}", rng.normal(size=d), rng.normal(size=d)
        x = rng.normal(size=d)
        yield "equal", x, x.copy()
        yield "opposite", x, -x
        yield "parallel", x, 2.7 * x
        yield "antiparallel", x, -0.3 * x
        yield "scaled apart", 1e100 * x, 1e-100 * rng.normal(size=d)
        yield "scaled parts", x * np.logspace(-8, 8, d), rng.normal(size=d) * np.logspace(8, -8, d)
        yield "zero", x, np.zeros(d)
        for angle in (1e-1, 5e-2, 1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12) if d > 1 else ():
            aside = rng.normal(size=d)
            aside *= np.linalg.norm(x) / np.linalg.norm(aside)
            yield f"near {angle:.0e}", x, 1.3 * (x + angle * aside)
            yield f"far {angle:.0e}", x, -1.3 * (x + angle * aside)


def write_table(path: Path) -> None:
    rng = np.random.default_rng(20190307)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["pair", "d", "x", "y", "depth", "w_std", "u_std", "ntk", "first", "last", "nngp"])
        for name, x, y in pairs(rng):
            for depth, w_std, u_std in NETWORKS:
                values = [mp.nstr(v, 20, strip_zeros=False) for v in kernels(x, y, depth, w_std, u_std)]
                vectors = [" ".join(float(v).hex() for v in vector) for vector in (x, y)]
                writer.writerow([name, len(x), *vectors, depth, w_std, u_std, *values])


def duals(a: Any, b: Any, c: Any) -> dict[str, tuple[Any, Any]]:
    """neuron -> (E φ(u) φ(v), E φ'(u) φ'(v)) of normal numbers of standard deviations a and b and correlation c.

    Cho & Saul 2009 (relu, leaky_relu, relu2), Williams 1997 (erf), Tsuchida et al. 2021 (gelu), the characteristic
    function (sine), fourth moments (quadratic).
    """
    A, B, C = a * a, b * b, a * b * c

    def homogeneous(c: Any) -> tuple[Any, Any]:
        theta = mp.acos(c)
        return a * b * (mp.sin(theta) + (mp.pi - theta) * c) / (2 * mp.pi), (mp.pi - theta) / (2 * mp.pi)

    (same, slope), (other, turned) = homogeneous(c), homogeneous(-c)
    leak, theta = mp.mpf(0.01), mp.acos(c)
    third = 3 * mp.sin(theta) * c + (mp.pi - theta) * (1 + 2 * c * c)
    D = (1 + A) * (1 + B) - C * C
    share = mp.mpf(1) / 4 + mp.asin(C / mp.sqrt((1 + A) * (1 + B))) / (2 * mp.pi)
    h = 1 / (1 + A) + 1 / (1 + B)
    gelu = C * share + (A * B - C * C + C * C * h) / (2 * mp.pi * mp.sqrt(D))
    root = mp.sqrt((1 + 2 * A) * (1 + 2 * B) - 4 * C * C)
    damped = mp.exp(-(A + B) / 2)
    return {
        "relu": (same, slope),
        "leaky_relu": ((1 + leak**2) * same - 2 * leak * other, (1 + leak**2) * slope + 2 * leak * turned),
        "relu2": (A * B * third / (2 * mp.pi), 4 * same),
        "erf": (2 / mp.pi * mp.atan2(2 * C, root), 4 / mp.pi / root),
        "gelu": (gelu, share + C * (h + 1 / D) / (2 * mp.pi * mp.sqrt(D))),
        "sine": (damped * mp.sinh(C), damped * mp.cosh(C)),
        "quadratic": (A * B + 2 * C * C, 4 * C),
    }


def integrals(a: Any, b: Any, c: Any) -> dict[str, tuple[Any, Any]]:
    """The same where there is no formula: the trapezoidal rule of step 1/10 over the plane, in 40 digits.

    For functions analytic in a strip of width π/(2 max(a, b)) around the line it errs by e^{−10 π²/max(a, b)}.
    """
    with mp.workdps(40):
        nodes = [mp.mpf(k) / 10 for k in range(-105, 106)]
        weights = [mp.npdf(p) / 10 for p in nodes]
        sine, sums = mp.sqrt((1 - c) * (1 + c)), {name: [mp.mpf(0)] * 2 for name in SMOOTH}
        for p, first in zip(nodes, weights, strict=True):
            for name, functions in SMOOTH.items():
                for k, f in enumerate(functions):
                    own = mp.fdot(weights, [f(b * (c * p + sine * q)) for q in nodes]) if sine else f(b * c * p)
                    sums[name][k] += first * f(a * p) * own
        return {name: (values[0], values[1]) for name, values in sums.items()}


SMOOTH: dict[str, tuple[Callable[[Any], Any], ...]] = {
    "tanh": (mp.tanh, lambda z: mp.sech(z) ** 2),
    "softplus": (lambda z: mp.log1p(mp.exp(z)), lambda z: 1 / (1 + mp.exp(-z))),
}


def write_duals(path: Path) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["neuron", "a", "b", "c", "value", "slope"])
        for a, b in LENGTHS:
            for c in COSINES:
                where = [float(v).hex() for v in (a, b, c)]
                numbers = [mp.mpf(v) for v in (a, b, c)]
                found = {**duals(*numbers), **(integrals(*numbers) if max(a, b) < 2 else {})}
                for name, values in found.items():
                    writer.writerow([name, *where, *(mp.nstr(v, 18, strip_zeros=False) for v in values)])


def arcsine(z: Any) -> Any:
    return mp.asin(mp.sqrt(z)) / mp.sqrt(z)


def bend(z: Any) -> Any:
    return (mp.sqrt(1 - z) - (1 - 2 * z) * arcsine(z)) / z


def interpolant(function: Callable[[Any], Any], terms: int) -> list[float]:
    """Monomial coefficients of the interpolant of `function` at `terms` Chebyshev points of [0, 1/2]."""
    points = [(1 + mp.cos(mp.pi * (k + mp.mpf(1) / 2) / terms)) / 4 for k in range(terms)]
    powers = mp.matrix([[z**j for j in range(terms)] for z in points])
    return [float(v) for v in mp.lu_solve(powers, mp.matrix([function(z) for z in points]))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coefficients", action="store_true")
    if parser.parse_args().coefficients:
        print("P =", interpolant(arcsine, 19))
        print("H =", interpolant(bend, 18))
    else:
        write_table(DATA / "kernel_reference.csv")
        write_duals(DATA / "dual_reference.csv")
