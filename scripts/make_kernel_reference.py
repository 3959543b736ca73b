#!/usr/bin/env python3
"""Make data/kernel_reference.csv: ReLU kernels of hard pairs of points, textbook formulas in 80-digit arithmetic.

With --coefficients, print instead the polynomials P and H of kernels/relu.py. Needs mpmath.
"""

import argparse
import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np

mp.mp.dps = 80
TABLE = Path(__file__).resolve().parent.parent / "data" / "kernel_reference.csv"


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
    for d in (1, 2, 3, 20, 80):
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
            for depth, w_std, u_std in ((2, 1.0, 1.0), (3, 1.25, 0.5), (10, 2**0.5, 1.0)):
                values = [mp.nstr(v, 20, strip_zeros=False) for v in kernels(x, y, depth, w_std, u_std)]
                vectors = [" ".join(float(v).hex() for v in vector) for vector in (x, y)]
                writer.writerow([name, len(x), *vectors, depth, w_std, u_std, *values])


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
        write_table(TABLE)
